-- Rows of fires that have just ended: counts them, and gives back the credit that a row took at its start and did not spend, as a held row made
-- of the one it took. A row in doubt keeps it. Called with the row locked, in the transaction that moves it to the history.
create or replace function wxnotify_end_reminders(p_ids bigint[]) returns void
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set jit = off as $$
declare
    c      record;
    v_id   bigint;
begin
    insert into reminder_results (schedule_id, local_at, fold, result, count, late)
    select r.schedule_id, r.local_at, r.fold, r.result, count(*), count(*) filter (where r.result = 'sent' and r.finished_at > r.send_at + interval '1 minute')
    from (select h.schedule_id, h.local_at, h.fold, h.send_at, h.finished_at,
              case when h.status in ('sent', 'presumed_sent') then 'sent' when h.status = 'unresolved' then 'in_doubt'
                   when h.status in ('expired', 'dead') then h.status
                   when h.settled_by = 'policy' and h.errmsg = 'no credit' then 'no_credit'
                   when h.settled_by = 'policy' and h.errmsg = 'no longer true' then 'not_true'
                   when h.settled_by = 'policy' and h.errmsg like 'pending_notifications.%' then 'refused'
                   when h.settled_by = 'policy' and h.errmsg = 'the reminder was changed' and h.attempts = 0 then 'withdrawn'
                   else 'cancelled' end as result
          from notification_history h where h.id = any (p_ids) and h.finished_at >= now() - interval '1 minute' and h.fold >= 0) r
    group by 1, 2, 3, 4;
    for c in
        select h.id as spender, o.*
        from notification_history h
        join notification_redrives d on d.new_id = h.id
        join notification_history o on o.id = d.redriven_id and o.held
        where h.id = any (p_ids) and h.finished_at >= now() - interval '1 minute' and h.in_doubt_since is null
          and (h.status in ('cancelled', 'expired', 'duplicate') or h.status = 'dead' and h.credit = 'kept')
    loop
        insert into pending_notifications (appid, kind, openid, template_id, page, data, extra, miniprogram_state, lang, send_at, held, expire_at, lane,
            dedup_key, business_ref, on_doubt, attempts_max, created_at, producer)
        values (c.appid, c.kind, c.openid, c.template_id, c.page, c.data, c.extra, c.miniprogram_state, c.lang, c.send_at, true, c.expire_at, c.lane,
            c.dedup_key, c.business_ref, c.on_doubt, c.attempts_max, c.created_at, c.producer)
        returning id into v_id;
        insert into notification_redrives (redriven_id, new_id, appid, actor) values (c.spender, v_id, c.appid, 'reminder') on conflict do nothing;
    end loop;
end $$;

comment on function wxnotify_end_reminders is 'Counts rows of fires that have ended, and gives back credits that they took and did not spend.';

grant execute on function wxnotify_end_reminders to wxnotify_worker;
