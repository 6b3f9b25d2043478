-- Rows that tidy parked for a pause become due again, at most p_rows. THE CALLER HAS TAKEN THE APP LOCK after ending the
-- pause: a tidy that still saw the pause has then committed what it parked.
create or replace function wxnotify_unpark(p_appid text, p_template_id text, p_waiting_for text, p_rows int) returns integer
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 as $$
declare
    v_rows  int;
    v_now   timestamptz := clock_timestamp();
    v_quiet boolean := exists (select 1 from notification_quiet_hours h where h.appid = p_appid);
begin
    with parked as (
        select p.id from pending_notifications p
        where p.appid = p_appid and (p_template_id is null or p.template_id = p_template_id) and p.waiting_for = p_waiting_for
          and p.waiting_for in ('template', 'app')
        limit least(p_rows, 1000) for update skip locked)
    update pending_notifications p
    set due = least(coalesce(case when v_quiet then wxnotify_row_quiet_end(p.appid, p.template_id, p.lane, p.schedule_id, greatest(p.send_at, v_now))
                               + random() * interval '2 minutes' end, wxnotify_next_due(p.held, p.send_at, p.expire_at)), p.expire_at),
        waiting_for = case when p.in_doubt_since is not null then 'doubt'
                           when v_quiet and wxnotify_row_quiet_end(p.appid, p.template_id, p.lane, p.schedule_id, greatest(p.send_at, v_now)) is not null then 'quiet' end
    where p.id = any (array(select parked.id from parked));
    get diagnostics v_rows = row_count;
    perform wxnotify_ring();
    return v_rows;
end $$;

comment on function wxnotify_unpark is 'Makes rows parked for a pause due again.';

grant execute on function wxnotify_unpark to wxnotify_worker;
