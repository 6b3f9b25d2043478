-- Who acts. The database user is certain. wxnotify.actor is what the command line says of the operating system's user, which any session
-- may set, so it stands in brackets behind. A login that is a member of wxnotify_console itself speaks for the people who logged in there:
-- its word, wxnotify.person, comes first.
create or replace function wxnotify_actor() returns text
language sql stable set search_path from current as $$
    select case when wxnotify_speaks_for_people() and nullif(current_setting('wxnotify.person', true), '') is not null
        then current_setting('wxnotify.person', true) || ' (console, ' || session_user || ')'
        else session_user || coalesce(' (' || nullif(current_setting('wxnotify.actor', true), '') || ')', '') end
$$;

comment on function wxnotify_actor is 'Who acts, for operator_actions: the person whom the console names, else the database user.';

grant execute on function wxnotify_actor to wxnotify_operator;
grant execute on function wxnotify_actor to wxnotify_viewer;
