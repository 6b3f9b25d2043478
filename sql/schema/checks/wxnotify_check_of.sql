-- The check of a schedule: its own, else its template's.
create or replace function wxnotify_check_of(s reminder_schedules) returns text
language plpgsql stable set search_path from current set enable_seqscan = off as $$
begin
    return coalesce(s.still_true, (select t.still_true from wechat_templates t where t.appid = s.appid and t.template_id = s.template_id));
end $$;

comment on function wxnotify_check_of is 'The name of a schedule''s check; null: none.';

grant execute on function wxnotify_check_of to wxnotify_worker;
