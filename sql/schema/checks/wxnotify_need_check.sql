create or replace function wxnotify_need_check(p_name text) returns void
language plpgsql stable set search_path from current as $$
begin
    if not exists (select 1 from reminder_checks c where c.name = p_name) then
        raise exception 'check % does not exist', coalesce(p_name, 'null')
            using errcode = 'no_data_found', hint = 'An operator adds it: select add_check(name, function). Look at the table reminder_checks for those that are there.';
    end if;
end $$;

comment on function wxnotify_need_check is 'Raises when a check does not exist.';

grant execute on function wxnotify_need_check to wxnotify_worker;
