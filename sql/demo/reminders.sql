-- What the demo says of reminders: a habit each second with fewer credits than times, a lesson that is no longer on, and tomorrow's message that two
-- users will lack a credit for. The function of the business is its own role's, as a check must be.
create role demo_school;
create schema demo_school;
create table demo_school.lessons (ref text primary key, is_on boolean not null);
insert into demo_school.lessons values ('lesson-7', false);
create function demo_school.still_on(refs text[]) returns text[]
language sql stable security definer set search_path = demo_school
as 'select array(select l.ref from lessons l where l.is_on and l.ref = any (refs))';
alter schema demo_school owner to demo_school;
alter table demo_school.lessons owner to demo_school;
alter function demo_school.still_on owner to demo_school;
grant usage on schema demo_school to wxnotify_worker;
grant execute on function demo_school.still_on to wxnotify_worker;
select add_check('lessons', 'demo_school.still_on');

insert into pending_notifications (appid, openid, template_id, data, held)
select 'wx_demo_cafe', 'o-reminded', 'pickup-ready', '{}', true from generate_series(1, 3);
