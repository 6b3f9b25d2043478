create or replace function wxnotify_need_read_committed() returns void
language plpgsql volatile set search_path from current as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'wxnotify needs READ COMMITTED, this session uses %', upper(current_setting('transaction_isolation'))
            using hint = 'Look for ALTER DATABASE or ALTER ROLE ... SET default_transaction_isolation.';
    end if;
end $$;

comment on function wxnotify_need_read_committed is 'Raises in any other isolation level.';

grant execute on function wxnotify_need_read_committed to wxnotify_worker;
