-- What the template of a row asks for, remembered for wxnotify_arrive until the end of the transaction.
create or replace function wxnotify_template_wants(p_appid text, p_template_id text, p_kind text) returns text
language plpgsql volatile set search_path from current as $$
declare
    v_wants text;
begin
    select case
        when t.data_check = 'truncate' then null
        when t.data_check = 'off' or t.fields is null or t.removed_at is not null or t.synced_at <= now() - interval '7 days' then ''
        when t.enums is null and (t.kind = 'one_time') = (p_kind = 'one_time') then t.fields::text
        end
    into v_wants
    from wechat_templates t where t.appid = p_appid and t.template_id = p_template_id;
    if not found then
        v_wants := '';
    end if;
    if v_wants is not null and p_appid || p_template_id || p_kind is not null then
        perform set_config('wxnotify.template', p_appid || ' ' || p_template_id || ' ' || p_kind, true), set_config('wxnotify.template_fields', v_wants, true);
    end if;
    return v_wants;
end $$;

comment on function wxnotify_template_wants is 'The fields that a row of the template must have, as the text of an array; empty: whatever it has; null: more must be looked at.';

grant execute on function wxnotify_template_wants to wxnotify_worker;
