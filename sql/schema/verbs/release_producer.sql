create or replace function release_producer(p_login name, p_note text default null) returns boolean
language plpgsql volatile set search_path from current set lock_timeout = '450ms' as $$
declare
    v_was_confined boolean;
begin
    lock table notification_producers in exclusive mode;
    delete from notification_producers n where n.login = p_login;
    v_was_confined := found;
    if not exists (select from notification_producers) then
        drop policy if exists confined on pending_notifications;
    end if;
    if v_was_confined then
        perform wxnotify_record_action('release_producer', jsonb_build_object('login', p_login), 1, p_note);
    end if;
    return v_was_confined;
end $$;

comment on function release_producer is 'Lets a login insert for every mini-program again. False: it was not confined. Only the owner of the tables can.';
