-- A check could not be asked. Its rows wait, longer the longer it fails, or are dropped, as it was added. Returns how many ended.
create or replace function wxnotify_fail_check(p_check_name text, p_appid text, p_ids bigint[], p_problem text) returns integer
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
declare
    c     reminder_checks;
    v_ids bigint[];
begin
    perform wxnotify_need_read_committed();
    update reminder_checks r
    set asked = r.asked + 1, errors = r.errors + 1, asked_at = clock_timestamp(), failing_since = coalesce(r.failing_since, clock_timestamp()), problem = left(p_problem, 200)
    where r.name = p_check_name returning * into c;
    v_ids := array(select l.id from unnest(p_ids) u (id)
                   cross join lateral (select p.id from pending_notifications p where p.id = u.id and p.waiting_for = 'check' limit 1 for update skip locked) l);
    if c.on_error = 'drop' and v_ids <> '{}' then
        return wxnotify_finish_carefully(p_appid, v_ids,
            array(select case when p.in_doubt_since is null then 'cancelled' else 'unresolved' end from unnest(v_ids) with ordinality u (id, n)
                  cross join lateral (select q.in_doubt_since from pending_notifications q where q.id = u.id limit 1) p order by u.n),
            'policy', null, null, array_fill('its check could not be asked'::text, array[cardinality(v_ids)]));
    end if;
    update pending_notifications p
    set check_at = clock_timestamp() + least(greatest((clock_timestamp() - coalesce(c.failing_since, clock_timestamp())) / 2, interval '1 second'), interval '1 minute')
    where p.id = any (v_ids);
    return 0;
end $$;

comment on function wxnotify_fail_check is 'Records that a check could not be asked about rows: they wait or are dropped.';

grant execute on function wxnotify_fail_check to wxnotify_worker;
