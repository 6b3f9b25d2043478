create or replace function set_template_check(p_appid text, p_template_id text, p_check text, p_note text default null) returns void
language plpgsql volatile security definer set search_path from current as $$
begin
    if p_check is null or p_check not in ('reject', 'truncate', 'off') then
        raise exception 'check %: must be reject, truncate or off', coalesce(p_check, 'null') using errcode = '22023';
    end if;
    perform wxnotify_need_app(p_appid);
    insert into wechat_templates (appid, template_id, data_check) values (p_appid, p_template_id, p_check)
    on conflict (appid, template_id) do update set data_check = excluded.data_check;
    perform wxnotify_record_action('set_template_check', jsonb_build_object('appid', p_appid, 'template_id', p_template_id, 'check', p_check), 1, p_note);
end $$;

comment on function set_template_check is 'What an INSERT that does not fit its template meets: reject, truncate (free text that is too long is cut) or off.';

grant execute on function set_template_check to wxnotify_operator;
