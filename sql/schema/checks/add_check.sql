create or replace function add_check(p_name text, p_function_name text, p_on_error text default 'hold', p_note text default null) returns boolean
language plpgsql volatile security definer set search_path from current as $$
declare
    v_fault text := wxnotify_check_fault(p_function_name);
    v_added boolean;
begin
    if p_name is null or p_name !~ '^[a-z][a-z0-9_]{0,62}$' then
        raise exception 'name: a small letter, then small letters, digits or _, at most 63 are required' using errcode = '22023';
    elsif p_on_error is null or p_on_error not in ('hold', 'drop') then
        raise exception 'on_error %: must be hold (rows wait while it fails) or drop (they are cancelled)', coalesce(p_on_error, 'null') using errcode = '22023';
    elsif v_fault is not null then
        raise exception 'function % cannot be a check: %', coalesce(p_function_name, 'null'), v_fault using errcode = '22023';
    end if;
    insert into reminder_checks as c (name, function_name, on_error, added_by) values (p_name, p_function_name, p_on_error, wxnotify_actor())
    on conflict (name) do update set function_name = excluded.function_name, on_error = excluded.on_error, failing_since = null, problem = null
    returning c.xmax = 0 into v_added;
    perform wxnotify_record_action('add_check', jsonb_build_object('check', p_name, 'function', p_function_name, 'on_error', p_on_error), 1, p_note);
    return v_added;
end $$;

comment on function add_check is 'Adds, or changes, a check that reminders are asked by: a SECURITY DEFINER function (text[]) → text[] of a business''s role that returns which of the given business_refs still hold. True: it was new.';

grant execute on function add_check to wxnotify_operator;
