-- The app lock: whoever holds it is alone in leasing, tidying and un-parking rows of one mini-program.
create or replace function wxnotify_lock_app(p_appid text) returns void
language plpgsql volatile set search_path from current as $$
begin
    perform pg_advisory_xact_lock(20786, hashtext(p_appid));
end $$;

comment on function wxnotify_lock_app is 'The app lock, until the end of the transaction.';

grant execute on function wxnotify_lock_app to wxnotify_worker;
