create or replace function wxnotify_checks_wait() returns boolean
language plpgsql volatile set search_path from current set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
begin
    return exists (select 1 from pending_notifications p where p.waiting_for = 'check');
end $$;

comment on function wxnotify_checks_wait is 'Whether rows wait for a check.';

grant execute on function wxnotify_checks_wait to wxnotify_worker;
