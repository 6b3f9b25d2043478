-- The partitions of a table and what they hold, as the catalog has it: their names are anybody's. A default partition is none of them.
create or replace function wxnotify_partitions(p_parent regclass) returns table (partition regclass, from_at timestamptz, to_at timestamptz)
language sql stable set search_path from current set timezone = 'UTC' as $$
    select b.partition, coalesce(substring(b.bound from 'FROM [(]''([^'']+)''[)]')::timestamptz, '-infinity'),
           coalesce(substring(b.bound from ' TO [(]''([^'']+)''[)]')::timestamptz, 'infinity')
    from (select i.inhrelid::regclass as partition, pg_get_expr(c.relpartbound, c.oid) as bound
          from pg_inherits i join pg_class c on c.oid = i.inhrelid
          where i.inhparent = p_parent and not i.inhdetachpending) b
    where b.bound like 'FOR VALUES FROM%'
$$;

comment on function wxnotify_partitions is 'The partitions of a table and the times they hold.';

grant execute on function wxnotify_partitions to wxnotify_operator, wxnotify_viewer, wxnotify_worker;
