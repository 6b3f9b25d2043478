-- One user and template after the other, each added up from its own rows: no more is read than is asked for, so the first hundred
-- take as long after a year as on the first day, and nothing is kept that could differ from the rows. "Distinct on", not
-- "distinct": that may be hashed, and the whole history be read for its first line.
create or replace view notification_credits as
select p.appid, p.openid, p.template_id, c.accepted, greatest(coalesce(c.accepted_since, 0) - c.spent_since, 0) as balance, c.unclaimed, c.held + c.pending as outstanding, c.held, c.pending, c.in_doubt, c.sent,
       c.unresolved, c.dead_gone, c.dead_kept, c.dead_unknown, c.unused, c.sent_elsewhere,
       (select r.refused_at from wechat_refusals r where r.appid = p.appid and r.openid = p.openid and r.template_id = p.template_id) as refused_at,
       c.last_accepted_at, c.last_finished_at
from (
    (select distinct on (h.appid, h.openid, h.template_id) h.appid, h.openid, h.template_id
     from notification_history h)
    union all
    (select distinct on (q.appid, q.openid, q.template_id) q.appid, q.openid, q.template_id
     from pending_notifications q
     where not exists (select 1 from notification_history h where h.appid = q.appid and h.openid = q.openid and h.template_id = q.template_id)
       and (q.openid is not null or not exists (select 1 from notification_history h where h.appid = q.appid and h.openid is null and h.template_id = q.template_id)))
    union all
    (select distinct on (e.appid, e.openid, e.template_id) e.appid, e.openid, e.template_id
     from wechat_events e
     where e.openid is not null and e.template_id is not null and (e.answer is not null or e.msgid is not null)
       and not exists (select 1 from notification_history h where h.appid = e.appid and h.openid = e.openid and h.template_id = e.template_id)
       and not exists (select 1 from pending_notifications q where q.appid = e.appid and q.openid = e.openid and q.template_id = e.template_id))
    ) p
cross join lateral (
    select sum(n.accepts) as accepted,
           count(*) filter (where n.fate = 'unclaimed') as unclaimed,
           count(*) filter (where n.fate = 'held') as held,
           count(*) filter (where n.fate = 'pending') as pending,
           count(*) filter (where n.fate = 'in_doubt') as in_doubt,
           count(*) filter (where n.fate = 'sent') as sent,
           count(*) filter (where n.fate = 'unresolved') as unresolved,
           count(*) filter (where n.fate = 'dead_gone') as dead_gone,
           count(*) filter (where n.fate = 'dead_kept') as dead_kept,
           count(*) filter (where n.fate = 'dead_unknown') as dead_unknown,
           count(*) filter (where n.fate = 'unused') as unused,
           count(*) filter (where n.fate = 'elsewhere') as sent_elsewhere,
           -- A 43101 is a count by WeChat itself: what came before it does not matter any more.
           sum(n.accepts) filter (where n.none_left is null or n.at > n.none_left) as accepted_since,
           count(*) filter (where (n.fate in ('sent', 'unresolved') and (n.none_left is null or n.finished_at > n.none_left))
                               or n.fate = 'in_doubt' or (n.fate = 'elsewhere' and (n.none_left is null or n.at > n.none_left))) as spent_since,
           max(n.accepted_at) as last_accepted_at, max(n.finished_at) as last_finished_at
    from (select e.*, max(e.none_left_at) over () as none_left
          from (select * from notification_credit_entries o where o.appid = p.appid and o.openid = p.openid and o.template_id = p.template_id
                union all
                -- Rows whose login code was never exchanged: no index finds null by "is not distinct from".
                select * from notification_credit_entries o
                where p.openid is null and o.appid = p.appid and o.openid is null and o.template_id = p.template_id) e) n
    having count(*) > 0) c;

comment on view notification_credits is 'One-time credits per user and template, as far as history reaches back: accepted = unclaimed + outstanding + in_doubt + sent + unresolved + dead_gone + dead_kept + dead_unknown + unused. Filter by appid and openid, or bound it by LIMIT: it reads each pair as it comes to it.';
comment on column notification_credits.appid is 'The mini-program.';
comment on column notification_credits.openid is 'The user.';
comment on column notification_credits.template_id is 'The template.';
comment on column notification_credits.accepted is 'Accepts we know of: rows, and WeChat''s pop-up events that no row claims.';
comment on column notification_credits.balance is 'Credits that WeChat most likely still holds: accepted less what was or may have been spent, here and elsewhere; after a 43101 without a refusal, which says that none was left, counted anew.';
comment on column notification_credits.unclaimed is 'Accepts that no row claims: WeChat most likely holds the credit, and nothing will spend it.';
comment on column notification_credits.outstanding is 'Held and pending.';
comment on column notification_credits.held is 'Recorded and not armed.';
comment on column notification_credits.pending is 'On their way, or paused.';
comment on column notification_credits.in_doubt is 'Perhaps spent.';
comment on column notification_credits.sent is 'Spent.';
comment on column notification_credits.unresolved is 'Perhaps spent; never found out.';
comment on column notification_credits.dead_gone is 'WeChat said there was no credit (43101).';
comment on column notification_credits.dead_kept is 'Refused for a reason that spends no credit: WeChat most likely still holds it.';
comment on column notification_credits.dead_unknown is 'Dead-lettered without knowing what became of the credit.';
comment on column notification_credits.unused is 'Expired, cancelled or duplicate: WeChat may still hold the credit.';
comment on column notification_credits.sent_elsewhere is 'Messages of other systems that WeChat''s sent events name: they spent credits too.';
comment on column notification_credits.refused_at is 'Since when the user refuses the template; null: does not, or has accepted again.';
comment on column notification_credits.last_accepted_at is 'The last accept that WeChat pushed.';
comment on column notification_credits.last_finished_at is 'When the last of the rows ended.';

grant select on notification_credits to wxnotify_worker;
grant select on notification_credits to wxnotify_operator;
grant select (appid, template_id, accepted, balance, unclaimed, outstanding, held, pending, in_doubt, sent, unresolved, dead_gone, dead_kept, dead_unknown, unused, sent_elsewhere, refused_at, last_accepted_at, last_finished_at)
    on notification_credits to wxnotify_viewer;
