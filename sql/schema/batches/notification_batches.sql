create or replace view notification_batches as
select b.id, b.verb, b.state, b.actor, b.filter, b.more, b.note, b.pace_per_minute, b.previewed_at, b.started_at, b.stepped_at, b.ended_at, b.ended_by,
       r.rows, r.left_out, r.waiting, r.changed, r.unchanged
from operator_batches b
cross join lateral (
    select count(*) as rows,
           count(*) filter (where x.result in ('already redriven', 'has no receiver', 'has ended', 'in doubt')) as left_out,
           count(*) filter (where x.result is null) as waiting,
           count(*) filter (where x.result in ('redriven', 'redriven, but its credit was gone', 'cancelled')) as changed,
           count(*) filter (where x.result not in ('already redriven', 'has no receiver', 'has ended', 'in doubt', 'redriven', 'redriven, but its credit was gone', 'cancelled')) as unchanged
    from operator_batch_rows x where x.batch_id = b.id) r;

comment on view notification_batches is 'Batches and how far they are: rows = left_out + waiting + changed + unchanged.';
comment on column notification_batches.id is 'Order.';
comment on column notification_batches.verb is 'redrive, cancel or undo.';
comment on column notification_batches.state is 'preview, running, stopped or done.';
comment on column notification_batches.actor is 'Who.';
comment on column notification_batches.filter is 'Which rows were asked for.';
comment on column notification_batches.more is 'True: more rows matched than a batch takes.';
comment on column notification_batches.note is 'Why.';
comment on column notification_batches.pace_per_minute is 'At most so many rows a minute.';
comment on column notification_batches.previewed_at is 'When its rows were chosen.';
comment on column notification_batches.started_at is 'When it was started.';
comment on column notification_batches.stepped_at is 'When its last part was done.';
comment on column notification_batches.ended_at is 'When it was done or stopped.';
comment on column notification_batches.ended_by is 'Who stopped it.';
comment on column notification_batches.rows is 'Rows that matched.';
comment on column notification_batches.left_out is 'Of them, left out at the preview: redriven before, without a receiver, in doubt, ended.';
comment on column notification_batches.waiting is 'Not done yet.';
comment on column notification_batches.changed is 'Done.';
comment on column notification_batches.unchanged is 'Refused by the verb: they moved meanwhile.';

grant select on notification_batches to wxnotify_operator;
grant select on notification_batches to wxnotify_viewer;
