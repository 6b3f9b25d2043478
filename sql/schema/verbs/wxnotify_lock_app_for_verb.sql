-- The app lock for a verb that a person may call inside a transaction. It must be kept until that ends: a tidy that comes earlier does not
-- see the pause ended, and would park again what the verb un-parks. So that a forgotten BEGIN does not stop the mini-program, the session
-- is ended when it has been idle for half a minute inside this transaction, which is then rolled back.
create or replace function wxnotify_lock_app_for_verb(p_appid text) returns void
language plpgsql volatile set search_path from current as $$
begin
    perform wxnotify_lock_app(p_appid);
    if current_setting('idle_in_transaction_session_timeout')::interval not between interval '1 millisecond' and interval '30 seconds' then
        perform set_config('idle_in_transaction_session_timeout', '30s', true);
    end if;
end $$;

comment on function wxnotify_lock_app_for_verb is 'The app lock, until the end of a transaction that is not left idle.';
