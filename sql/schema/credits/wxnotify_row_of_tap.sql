-- The first row of a pair, by created_at, that may be the tap of an accept at p_at and that no other accept claims; a minute
-- of grace for clocks that differ. Rows that wxnotify made itself, by a redrive, a reminder or of an accept, are no witnesses.
create or replace function wxnotify_row_of_tap(p_appid text, p_openid text, p_template_id text, p_at timestamptz, p_window_secs float8) returns bigint
language sql stable set search_path from current set enable_seqscan = off as $$
    select r.id
    from (select p.id, p.created_at from pending_notifications p
          where p.appid = p_appid and p.openid = p_openid and p.template_id = p_template_id and wxnotify_spends_credit(p.kind) and p.schedule_id is null
          union all
          -- The bound on finished_at keeps old partitions out.
          select h.id, h.created_at from notification_history h
          where h.appid = p_appid and h.openid = p_openid and h.template_id = p_template_id and wxnotify_spends_credit(h.kind) and h.schedule_id is null
            and h.finished_at >= p_at - interval '1 minute') r
    where r.created_at between p_at - interval '1 minute' and p_at + make_interval(secs => p_window_secs)
      and not exists (select 1 from wechat_events c where c.notification_id = r.id)
      and not exists (select 1 from wechat_events c where c.held_id = r.id)
      and not exists (select 1 from notification_redrives d where d.new_id = r.id)
    order by r.created_at, r.id limit 1
$$;

comment on function wxnotify_row_of_tap is 'The row that is the same tap as an accept, if there is one.';

grant execute on function wxnotify_row_of_tap to wxnotify_worker;
