create or replace view notification_stranded as
select o.appid, o.template_id, o.title, o.removed_at, s.template_id as successor_id, c.held, c.waiting
from wechat_templates o
left join lateral (
    select n.template_id from wechat_templates n
    where n.appid = o.appid and n.title = o.title and n.fields @> o.fields and n.fields <@ o.fields
      and n.synced_at is not null and n.removed_at is null
    order by n.listed_at desc, n.template_id limit 1) s on true
cross join lateral (
    select count(*) filter (where p.held) as held, count(*) filter (where not p.held) as waiting
    from pending_notifications p where p.appid = o.appid and p.template_id = o.template_id) c
where o.removed_at is not null and c.held + c.waiting > 0;

comment on view notification_stranded is 'Rows whose template WeChat does not list any more. Their credits were given for that template id: a successor with the same title and fields cannot spend them.';
comment on column notification_stranded.appid is 'The mini-program.';
comment on column notification_stranded.template_id is 'The template that is gone.';
comment on column notification_stranded.title is 'Its title, if it was ever listed.';
comment on column notification_stranded.removed_at is 'When it was first missing from WeChat''s list.';
comment on column notification_stranded.successor_id is 'A listed template with the same title and fields; null: none.';
comment on column notification_stranded.held is 'Held credits on the old id.';
comment on column notification_stranded.waiting is 'Other rows not final on the old id.';

grant select on notification_stranded to wxnotify_worker;
grant select on notification_stranded to wxnotify_operator;
grant select on notification_stranded to wxnotify_viewer;
