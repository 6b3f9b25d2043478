-- What became of each time of each reminder. The counts add up: audience = made + refused of those left out, made = open + sent + in_doubt + … .
create or replace view reminder_outcomes as
select f.schedule_id, coalesce(s.name, d.name) as name, f.local_at, f.fold, f.fire_at, f.state, f.reason, f.until, f.count, f.audience, f.made,
       f.made - r.ended as open, r.sent, r.in_doubt, r.no_credit, f.refused + r.refused as refused, r.not_true, r.expired, r.dead, r.cancelled, r.late, coalesce(s.producer, d.producer) as producer
from reminder_fires f
left join reminder_schedules s on s.id = f.schedule_id
left join reminder_schedules_deleted d on d.schedule_id = f.schedule_id
cross join lateral (
    select coalesce(sum(x.count), 0) as ended,
           coalesce(sum(x.count) filter (where x.result = 'sent'), 0) as sent, coalesce(sum(x.count) filter (where x.result = 'in_doubt'), 0) as in_doubt,
           coalesce(sum(x.count) filter (where x.result = 'no_credit'), 0) as no_credit, coalesce(sum(x.count) filter (where x.result = 'refused'), 0) as refused,
           coalesce(sum(x.count) filter (where x.result = 'not_true'), 0) as not_true, coalesce(sum(x.count) filter (where x.result = 'expired'), 0) as expired,
           coalesce(sum(x.count) filter (where x.result = 'dead'), 0) as dead,
           coalesce(sum(x.count) filter (where x.result in ('cancelled', 'withdrawn')), 0) as cancelled, coalesce(sum(x.late), 0) as late
    from reminder_results x where x.schedule_id = f.schedule_id and x.local_at = f.local_at and x.fold = f.fold) r;

comment on view reminder_outcomes is 'What became of each time of each reminder. Filter by schedule_id. open is what is neither sent nor ended yet.';
comment on column reminder_outcomes.schedule_id is 'The reminder.';
comment on column reminder_outcomes.name is 'Its name, also after it was deleted.';
comment on column reminder_outcomes.local_at is 'The wall time in its zone.';
comment on column reminder_outcomes.fold is '1 for the second of two equal wall times at the end of summer time.';
comment on column reminder_outcomes.fire_at is 'The instant.';
comment on column reminder_outcomes.state is 'open (its rows are being made), done, skipped or cancelled.';
comment on column reminder_outcomes.reason is 'Why it was skipped or cancelled; of a done one, the rule that some of its texts broke.';
comment on column reminder_outcomes.until is 'Where one row stands for many skipped times, the last of them.';
comment on column reminder_outcomes.count is 'How many times the row stands for.';
comment on column reminder_outcomes.audience is 'Users seen to.';
comment on column reminder_outcomes.made is 'Rows made.';
comment on column reminder_outcomes.open is 'Rows that have not ended.';
comment on column reminder_outcomes.sent is 'Sent, or presumed so.';
comment on column reminder_outcomes.in_doubt is 'Ended unresolved.';
comment on column reminder_outcomes.no_credit is 'The user had no held credit when it was to be sent.';
comment on column reminder_outcomes.refused is 'The user refuses the template, or the text broke a rule.';
comment on column reminder_outcomes.not_true is 'The reminder was no longer true.';
comment on column reminder_outcomes.expired is 'Not sent in time.';
comment on column reminder_outcomes.dead is 'Dead-lettered.';
comment on column reminder_outcomes.cancelled is 'Cancelled, by an edit, a deletion, a producer or an operator.';
comment on column reminder_outcomes.late is 'A remark: of those sent, how many were a minute late or more.';
comment on column reminder_outcomes.producer is 'Whose reminder it is.';

grant select on reminder_outcomes to wxnotify_worker;
grant select on reminder_outcomes to wxnotify_operator;
grant select on reminder_outcomes to wxnotify_viewer;
