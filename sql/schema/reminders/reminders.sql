-- State and problem are not stored but told from what workers know: a schedule's row is its business's alone.
create or replace view reminders as
select s.id, s.appid, s.name,
       case when s.paused_at is not null then 'paused' when c.problem is not null then 'invalid' when k.is_over then 'over' else 'active' end as state,
       coalesce(c.problem, k.problem, s.pause_note) as problem,
       case when s.paused_at is null and n.fire_at is not null then n.fire_at end as next_at,
       case when s.paused_at is null and n.fire_at is not null then n.local_at end as next_local_at,
       s.cron, s.every, s.time_zone, s.audience, s.kind, s.template_id, s.credit, s.missed, s.valid_for, s.spread, s.business_ref, s.paused_at, s.producer, s.created_at, s.version,
       k.fires_made, l.local_at as last_local_at, l.state as last_state, l.reason as last_reason, s.quiet,
       coalesce(s.still_true, (select t.still_true from wechat_templates t where t.appid = s.appid and t.template_id = s.template_id)) as still_true,
       coalesce(s.approved_version = s.version, false) as approved
from reminder_schedules s
left join reminder_clock k on k.schedule_id = s.id
left join reminder_calendars c on c.spec = s.spec
left join lateral (select u.fire_at, u.local_at from unnest(c.fire_ats, c.local_ats) u (fire_at, local_at) where u.fire_at = k.next_fire_at limit 1) n on true
left join lateral (select f.local_at, f.state, f.reason from reminder_fires f where f.schedule_id = s.id order by f.local_at desc, f.fold desc limit 1) l on true;

comment on view reminders is 'The reminder schedules: what each is doing, when it fires next and what became of its last time.';
comment on column reminders.id is 'The schedule''s id: notifications name it as schedule_id.';
comment on column reminders.appid is 'The mini-program.';
comment on column reminders.name is 'Its name.';
comment on column reminders.state is 'active, paused, invalid (problem says why) or over (ends_at or fires_max is reached).';
comment on column reminders.problem is 'Why it does not fire, in words.';
comment on column reminders.next_at is 'Its next fire; null: none is known for the next days.';
comment on column reminders.next_local_at is 'The same as wall time in its zone.';
comment on column reminders.cron is 'When it fires.';
comment on column reminders.every is 'Or how often.';
comment on column reminders.time_zone is 'The zone of its times.';
comment on column reminders.audience is 'one, list or holders.';
comment on column reminders.kind is 'one_time or long_term.';
comment on column reminders.template_id is 'WeChat''s private template id.';
comment on column reminders.credit is 'held: each message spends a held credit; none.';
comment on column reminders.missed is 'skip, latest or all.';
comment on column reminders.valid_for is 'How long a message may be late.';
comment on column reminders.spread is 'Over how long a fire is spread.';
comment on column reminders.business_ref is 'The business object.';
comment on column reminders.paused_at is 'Paused since.';
comment on column reminders.producer is 'The database user that inserted it.';
comment on column reminders.created_at is 'When it was inserted.';
comment on column reminders.version is 'Grows with each edit.';
comment on column reminders.fires_made is 'Fires made so far.';
comment on column reminders.last_local_at is 'Its last time, as wall time.';
comment on column reminders.last_state is 'What became of it: open, done, skipped or cancelled.';
comment on column reminders.last_reason is 'Why it was skipped or cancelled.';
comment on column reminders.quiet is 'What becomes of it in quiet hours: hold, drop or ignore.';
comment on column reminders.still_true is 'The check that is asked before each send, its own or its template''s; null: none.';
comment on column reminders.approved is 'An operator approved it as it is now.';

grant select on reminders to wxnotify_worker;
grant select on reminders to wxnotify_operator;
