-- Asks a check about refs, in a read-only transaction on a connection that is closed behind it. It was looked at in this same moment: its owner may have
-- replaced it. Returns those that hold; null: what it answered is no list of refs.
create or replace function wxnotify_ask_check(p_function_name text, p_refs text[]) returns text[]
language plpgsql volatile set search_path from current as $$
declare
    v_names  text[];
    v_answer text[];
    v_fault  text := wxnotify_check_fault(p_function_name);
begin
    if v_fault is not null then
        raise exception '%', v_fault using errcode = 'object_not_in_prerequisite_state';
    end if;
    v_names := parse_ident(p_function_name);
    execute format('select %I.%I($1)', v_names[1], v_names[2]) into v_answer using p_refs;
    if v_answer is null or array_ndims(v_answer) > 1 or array_position(v_answer, null) is not null then
        return null;
    end if;
    return array(select unnest(v_answer) intersect select unnest(p_refs));
end $$;

comment on function wxnotify_ask_check is 'Asks a check which of some refs still hold.';

grant execute on function wxnotify_ask_check to wxnotify_worker;
