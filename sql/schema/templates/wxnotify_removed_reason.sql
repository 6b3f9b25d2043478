-- The pause of a template that WeChat does not list is known by these words: whoever pauses or resumes it for another reason overwrites them.
create or replace function wxnotify_removed_reason() returns text language sql immutable set search_path from current as $$
    select 'WeChat does not list this template any more'
$$;

comment on function wxnotify_removed_reason is 'The reason of a pause that begins when a template is missing from WeChat''s list and ends when it is back.';

grant execute on function wxnotify_removed_reason to wxnotify_worker;
