-- What a row that does not plainly fit its template meets: it is cut, or refused with the key and the rule, never the value.
create or replace function wxnotify_fit_data(p_appid text, p_template_id text, p_kind text, p_data jsonb) returns jsonb
language plpgsql stable set search_path from current as $$
declare
    v_template wechat_templates;
    v_column   text := 'data';
    v_fault    text;
    v_missing  text[];
    v_key      text;
    v_text     text;
begin
    select * into v_template from wechat_templates t where t.appid = p_appid and t.template_id = p_template_id;
    if v_template.data_check = 'off' or p_data is null or jsonb_typeof(p_data) <> 'object' then
        return p_data;
    end if;
    -- Cutting is dear, and mostly nothing is too long: no text has 21 characters in a row, none is short, none hides a quote.
    if v_template.data_check = 'truncate' and p_data::text ~ E'[^"]{21}|short_thing|\\\\' then
        p_data := wxnotify_truncate_data(p_data);
    end if;
    if v_template.fields is null or v_template.removed_at is not null or v_template.synced_at <= now() - interval '7 days' then
        return p_data;
    end if;
    if (v_template.kind = 'one_time') <> (coalesce(p_kind, 'one_time') = 'one_time') then
        v_column := 'kind';
        v_fault := case v_template.kind
            when 'one_time' then 'must be one_time: WeChat lists this template as one-time'
            else 'must be long_term or device: WeChat lists this template as long-term' end;
    elsif p_data = '{}' then
        return p_data;   -- a held row: it is looked at again when it gets its data
    else
        v_missing := array(select wxnotify_legible(f.key) from unnest(v_template.fields) with ordinality f (key, place) where not p_data ? f.key order by f.place);
        select k.key into v_key from jsonb_object_keys(p_data) k (key) where k.key <> all (v_template.fields) order by k.key limit 1;
        v_fault := case
            when v_missing <> '{}' then format('%s: missing', array_to_string(v_missing, ', '))
            when v_key is not null then format('%s: the template has no such field', wxnotify_legible(v_key)) end;
        if v_fault is not null then
            v_fault := v_fault || format('; its fields are %s', (select string_agg(wxnotify_legible(f), ', ') from unnest(v_template.fields) f));
        end if;
        for v_key in select e.key from jsonb_object_keys(v_template.enums) e (key) where v_fault is null order by e.key loop
            v_text := case jsonb_typeof(p_data -> v_key) when 'object' then p_data -> v_key ->> 'value' else p_data ->> v_key end;
            if not coalesce(v_template.enums -> v_key ? v_text, false) then
                v_fault := format('%s: must be one of %s', wxnotify_legible(v_key),
                    (select string_agg(wxnotify_legible(e), ', ') from jsonb_array_elements_text(v_template.enums -> v_key) e));
            end if;
        end loop;
    end if;
    if v_fault is not null then
        raise exception using errcode = 'check_violation', table = 'pending_notifications', column = v_column,
            message = format('pending_notifications.%s: %s', v_column, v_fault),
            hint = format('Nothing was stored. This is template %s as WeChat listed it at %s. If it was changed since, run `wxnotify template sync %s`; to store such rows all the same, `wxnotify template check %s %s off`.',
                          p_template_id, to_char(v_template.synced_at, 'YYYY-MM-DD HH24:MI TZ'), p_appid, p_appid, p_template_id);
    end if;
    return p_data;
end $$;

comment on function wxnotify_fit_data is 'Fits a row''s data to its template, or raises with the key and the rule.';

grant execute on function wxnotify_fit_data to wxnotify_worker;
