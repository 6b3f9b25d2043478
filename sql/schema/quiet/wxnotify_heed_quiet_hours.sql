-- Rows that wait for the end of quiet hours and, by the hours as they are now, need not wait: at most p_rows become due. Returns how many: call again
-- while it returns p_rows.
create or replace function wxnotify_heed_quiet_hours(p_appid text, p_rows int) returns integer
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off as $$
declare
    v_rows int;
begin
    with free as (
        select p.id from pending_notifications p
        where p.waiting_for = 'quiet' and p.appid = p_appid and p.due > clock_timestamp()
          and wxnotify_row_quiet_end(p.appid, p.template_id, p.lane, p.schedule_id, clock_timestamp()) is null
        limit least(p_rows, 1000) for update skip locked)
    update pending_notifications p
    set due = wxnotify_next_due(p.held, p.send_at, p.expire_at), waiting_for = null
    where p.id = any (array(select f.id from free f));
    get diagnostics v_rows = row_count;
    perform wxnotify_ring();
    return v_rows;
end $$;

comment on function wxnotify_heed_quiet_hours is 'Makes rows due that waited for the end of quiet hours and need not.';

grant execute on function wxnotify_heed_quiet_hours to wxnotify_worker;
