create or replace function pause_template_by_operator(p_appid text, p_template_id text, p_until timestamptz default 'infinity', p_reason text default 'by an operator', p_note text default null)
returns void language plpgsql volatile security definer set search_path from current as $$
begin
    insert into wechat_templates (appid, template_id, paused_until, pause_reason)
    values (p_appid, p_template_id, coalesce(p_until, 'infinity'), coalesce(p_reason, 'by an operator'))
    on conflict (appid, template_id) do update set paused_until = excluded.paused_until, pause_reason = excluded.pause_reason, pause_errcode = null;
    perform wxnotify_record_action('pause_template', jsonb_build_object('appid', p_appid, 'template_id', p_template_id, 'until', coalesce(p_until, 'infinity')::text), 1, p_note);
end $$;

comment on function pause_template_by_operator is 'Rows of this template wait until then (null or infinity: until resume_template).';

grant execute on function pause_template_by_operator to wxnotify_operator;
