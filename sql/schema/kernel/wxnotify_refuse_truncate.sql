create or replace function wxnotify_refuse_truncate() returns trigger
language plpgsql set search_path from current as $$
begin
    raise exception '%: TRUNCATE would lose notifications without a trace', tg_table_name
        using hint = 'DELETE cancels rows and records them in notification_history.';
end $$;

comment on function wxnotify_refuse_truncate is 'Trigger: TRUNCATE would lose rows without a trace.';

grant execute on function wxnotify_refuse_truncate to wxnotify_worker;
