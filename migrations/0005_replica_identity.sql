-- A publication FOR ALL TABLES (a logical copy, change data capture) refuses every UPDATE and DELETE of a table that has no replica
-- identity. Partitions of history and attempts have no unique index, so the whole old row is theirs: written to the log only
-- while wal_level is logical, and only for what is updated, a sent row whose receipt comes. New partitions get it when they are made.
do $$
declare
    v_table regclass;
begin
    for v_table in
        select c.oid from pg_class c
        where c.oid in ('notification_history'::regclass, 'notification_attempts'::regclass)
           or c.oid in (select i.inhrelid from pg_inherits i
                        where i.inhparent in ('notification_history'::regclass, 'notification_attempts'::regclass))
        order by c.relkind, c.relname
    loop
        execute format('alter table %s replica identity full', v_table);
    end loop;
end $$;

comment on sequence notification_bell is 'The unix second until which sleeping workers want to be woken by NOTIFY; 0: nobody sleeps.';
