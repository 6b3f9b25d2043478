-- Lets constraints of others on pending_notifications that wait for the commit be checked with each statement of this transaction.
create or replace function wxnotify_check_at_once() returns void
language plpgsql volatile set search_path from current set enable_seqscan = off as $$
declare
    v_name text;
begin
    for v_name in
        select distinct format('%I.%I', n.nspname, c.conname)
        from pg_trigger t join pg_constraint c on c.oid = t.tgconstraint join pg_namespace n on n.oid = c.connamespace
        where t.tgrelid = 'pending_notifications'::regclass and t.tginitdeferred
    loop
        execute 'set constraints ' || v_name || ' immediate';
    end loop;
end $$;

comment on function wxnotify_check_at_once is 'Checks what others hung on pending_notifications at each statement instead of at the commit.';

grant execute on function wxnotify_check_at_once to wxnotify_worker;
