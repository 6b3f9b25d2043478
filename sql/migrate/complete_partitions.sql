-- Partitions of the unreleased schema lack the comments of columns that their table got after them.
do $$
declare
    v_column record;
begin
    for v_column in
        select i.inhrelid::regclass as partition, child.attname as name, col_description(parent.attrelid, parent.attnum) as words
        from pg_inherits i
        join pg_attribute parent on parent.attrelid = i.inhparent and parent.attnum > 0 and not parent.attisdropped
        join pg_attribute child on child.attrelid = i.inhrelid and child.attname = parent.attname
        where i.inhparent in ('notification_history'::regclass, 'notification_attempts'::regclass)
          and col_description(child.attrelid, child.attnum) is null
    loop
        execute format('comment on column %s.%I is %L', v_column.partition, v_column.name, v_column.words);
    end loop;
end $$
