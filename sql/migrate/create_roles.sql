-- Creates the group roles that are missing, if this user may, and lets them use the schema. Roles belong to the whole server: another
-- database's wxnotify may be creating them at this moment.
do $$
declare
    v_about constant text[] := array[
        ['wxnotify_console', 'wxnotify: the console''s login, which speaks for the people who log in there; grant it wxnotify_operator and wxnotify_viewer, too'],
        ['wxnotify_producer', 'wxnotify: business systems that insert notifications and change or cancel their own'],
        ['wxnotify_operator', 'wxnotify: people who look at every notification and use the verbs'],
        ['wxnotify_viewer', 'wxnotify: dashboards, which see no receiver and no message'],
        ['wxnotify_worker', 'wxnotify: the workers, `wxnotify run`; the only ones to read access tokens']];
begin
    for v_at in 1..array_length(v_about, 1) loop
        if to_regrole(v_about[v_at][1]) is null then
            begin
                execute format('create role %I nologin', v_about[v_at][1]);
                execute format('comment on role %I is %L', v_about[v_at][1], v_about[v_at][2]);
            exception
                when duplicate_object or unique_violation or insufficient_privilege then null;
            end;
        end if;
        if to_regrole(v_about[v_at][1]) is not null and not has_schema_privilege(v_about[v_at][1], current_schema(), 'usage') then
            execute format('grant usage on schema %I to %I', current_schema(), v_about[v_at][1]);
        end if;
    end loop;
end $$
