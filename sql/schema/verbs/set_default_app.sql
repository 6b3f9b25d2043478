create or replace function set_default_app(p_appid text, p_note text default null) returns void
language plpgsql volatile security definer set search_path from current set lock_timeout = '450ms' as $$
begin
    execute format('alter table pending_notifications alter appid set default %L', p_appid);
    perform wxnotify_record_action('set_default_app', jsonb_build_object('appid', p_appid), 1, p_note);
end $$;

comment on function set_default_app is 'Makes a mini-program the default of pending_notifications.appid, so that INSERTs may leave it out. Only the table''s owner can.';

grant execute on function set_default_app to wxnotify_operator;
