create or replace function pause_app_by_operator(p_appid text, p_until timestamptz default 'infinity', p_reason text default 'by an operator', p_note text default null) returns void
language plpgsql volatile security definer set search_path from current as $$
begin
    perform wxnotify_need_app(p_appid);
    update wechat_apps set paused_until = coalesce(p_until, 'infinity'), pause_reason = coalesce(p_reason, 'by an operator'), pause_errcode = null
    where appid = p_appid;
    perform wxnotify_record_action('pause_app', jsonb_build_object('appid', p_appid, 'until', coalesce(p_until, 'infinity')::text), 1, p_note);
end $$;

comment on function pause_app_by_operator is 'Nothing more of this mini-program is leased until then (null or infinity: until resume_app). What is in flight is finished.';

grant execute on function pause_app_by_operator to wxnotify_operator;
