-- As wxnotify_finish, where one row that the database refuses to move must cost only itself: somebody's foreign key, trigger or
-- rule. All of them in one go first; refused, in halves, and a single one that is refused waits for the obstacle to go. A
-- subtransaction for each try: hence settle comes here only when it was refused before. Returns how many were moved; a missing
-- partition is made.
create or replace function wxnotify_finish_carefully(
    p_appid text, p_ids bigint[], p_statuses text[], p_settled_by text, p_worker text,
    p_errcodes bigint[] default null, p_errmsgs text[] default null, p_msgids bigint[] default null, p_credits text[] default null,
    p_duplicate_of bigint[] default null, p_attempts smallint default 0) returns integer
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off as $$
declare
    v_count      int := cardinality(p_ids);
    v_half       int := v_count / 2;
    v_careful    text := coalesce(current_setting('wxnotify.careful', true), '');
    v_moved      int;
    v_constraint text;
    v_said       text;
    v_where      text;
begin
    begin
        perform set_config('wxnotify.careful', 'off', true);
        -- A check that waits for the commit would refuse everything there. What a person does is checked when that person says.
        if p_settled_by <> 'operator' then
            perform wxnotify_check_at_once();
        end if;
        v_moved := wxnotify_finish(p_appid, p_ids, p_statuses, p_settled_by, p_worker, p_errcodes, p_errmsgs, p_msgids, p_credits, p_duplicate_of, p_attempts);
        perform set_config('wxnotify.careful', v_careful, true);
        return v_moved;
    exception when others then
        get stacked diagnostics v_constraint = constraint_name, v_said = message_text, v_where = pg_exception_context;
        -- Not a word about these rows: the connection, the transaction, resources, a lock, an end by somebody, the server itself.
        if left(sqlstate, 2) in ('08', '25', '40', '53', '55', '57', '58', 'XX') then
            raise;
        end if;
        v_said := case
            when left(sqlstate, 2) in ('09', '0A', '23', '42') then v_said || ' (SQLSTATE ' || sqlstate || ')'
            -- Words of others may hold values.
            else 'SQLSTATE ' || sqlstate || ' in ' || split_part(v_where, E'\n', 1) end;
        if sqlstate <> '23514' or v_constraint <> '' then
            v_constraint := null;
        end if;
    end;
    -- A violated check without a name is a missing partition.
    if v_constraint is not null then
        if wxnotify_make_partitions() > 0 then
            return wxnotify_finish_carefully(p_appid, p_ids, p_statuses, p_settled_by, p_worker, p_errcodes, p_errmsgs, p_msgids, p_credits,
                p_duplicate_of, p_attempts);
        end if;
        raise check_violation using message = v_said, hint = 'Make the partition of this month: select wxnotify_make_partitions().';
    end if;
    if v_count = 1 then
        begin
            perform wxnotify_park_obstacle(p_appid, p_ids[1], p_statuses[1], p_settled_by, p_worker, p_errcodes[1], p_errmsgs[1], p_msgids[1], v_said);
        exception when others then
            -- Not even that: its lease, or its place in the lane, is all that keeps it.
            if left(sqlstate, 2) in ('08', '25', '40', '53', '55', '57', '58', 'XX') then
                raise;
            end if;
        end;
        return 0;
    end if;
    -- Where a check of others is slow, the rest comes another time: a call must end before its client gives up.
    if clock_timestamp() > statement_timestamp() + interval '4 seconds' then
        return 0;
    end if;
    return wxnotify_finish_carefully(p_appid, p_ids[:v_half], p_statuses[:v_half], p_settled_by, p_worker, p_errcodes[:v_half], p_errmsgs[:v_half],
            p_msgids[:v_half], p_credits[:v_half], p_duplicate_of[:v_half], p_attempts)
        + wxnotify_finish_carefully(p_appid, p_ids[v_half + 1:], p_statuses[v_half + 1:], p_settled_by, p_worker, p_errcodes[v_half + 1:], p_errmsgs[v_half + 1:],
            p_msgids[v_half + 1:], p_credits[v_half + 1:], p_duplicate_of[v_half + 1:], p_attempts);
end $$;

comment on function wxnotify_finish_carefully is 'As wxnotify_finish; a row that the database refuses to move costs only itself.';

grant execute on function wxnotify_finish_carefully to wxnotify_worker;
