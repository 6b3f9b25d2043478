create or replace view notification_credits as
select c.appid, c.openid, c.template_id, c.accepted, greatest(coalesce(c.accepted_since, 0) - c.spent_since, 0) as balance, c.unclaimed, c.held + c.pending as outstanding, c.held, c.pending, c.in_doubt, c.sent,
       c.unresolved, c.dead_gone, c.dead_kept, c.dead_unknown, c.unused, c.sent_elsewhere, r.refused_at, c.last_accepted_at, c.last_finished_at
from (
    select n.appid, n.openid, n.template_id, sum(n.accepts) as accepted,
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
    from (select e.*, max(e.none_left_at) over (partition by e.appid, e.openid, e.template_id) as none_left
          from notification_credit_entries e) n
    group by n.appid, n.openid, n.template_id) c
left join wechat_refusals r on r.appid = c.appid and r.openid = c.openid and r.template_id = c.template_id;

comment on view notification_credits is 'One-time credits per user and template, as far as history reaches back: accepted = unclaimed + outstanding + in_doubt + sent + unresolved + dead_gone + dead_kept + dead_unknown + unused. Filter by appid and openid: without a filter it reads everything.';
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
