create or replace function wxnotify_pause_template(p_appid text, p_template_id text, p_secs double precision, p_rule text, p_reason text, p_errcode bigint) returns void
language plpgsql volatile set search_path from current as $$
declare
    v_earliest timestamptz := wxnotify_pause_end(p_secs, p_rule, false);
    v_until    timestamptz := wxnotify_pause_end(p_secs, p_rule, true);
begin
    perform from wechat_templates
      where appid = p_appid and template_id = p_template_id
        and (paused_until >= v_earliest - interval '1 second');
    if found then
        return;
    end if;
    insert into wechat_templates as template (appid, template_id, paused_until, pause_reason, pause_errcode)
    values (p_appid, p_template_id, v_until, p_reason, p_errcode)
    on conflict (appid, template_id) do update
       set paused_until  = greatest(template.paused_until, excluded.paused_until),
           pause_reason  = excluded.pause_reason,
           pause_errcode = excluded.pause_errcode;
    perform wxnotify_heed_errcode(p_appid, p_errcode);
end $$;

comment on function wxnotify_pause_template is 'Pauses one template for seconds or until a rule''s time, never shortening a pause.';

grant execute on function wxnotify_pause_template to wxnotify_worker;
