-- Records what exchanges brought: an openid, the end (p_dead), or another try after p_after_secs. An openid counts whoever
-- holds the claim by now: it is true. Everything else only under its own claim. p_unclear: the call may have used the
-- code. Returns the ids that somebody else holds at this moment: call again with them.
create or replace function wxnotify_settle_logins(
    p_ids bigint[], p_claims smallint[], p_openids text[], p_dead boolean[], p_unclear boolean[], p_after_secs float8[], p_errcodes bigint[],
    p_errmsgs text[], p_credits text[], p_rids text[], p_worker text) returns bigint[]
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set jit = off as $$
declare
    v_now   timestamptz := clock_timestamp();
    v_row   record;
    v_kept  bigint[] := '{}';
    v_spent text;   -- in words, when an earlier exchange of ours used the code
begin
    perform wxnotify_need_read_committed();
    for v_n in 1..cardinality(p_ids) loop
        select p.appid, p.attempts, p.login_code, p.login_claims, p.login_unclear, p.last_errcode into v_row
        from pending_notifications p where p.id = p_ids[v_n] for update skip locked;
        if not found or v_row.login_code is null then
            if not found and (select p.login_code from pending_notifications p where p.id = p_ids[v_n]) is not null then
                v_kept := v_kept || p_ids[v_n];
            end if;
            continue;
        end if;
        if p_openids[v_n] is not null then
            begin
                update pending_notifications p
                set openid = p_openids[v_n], login_code = null, login_at = null, login_until = null, waiting_for = null,
                    due = wxnotify_next_due(p.held, p.send_at, p.expire_at), last_errcode = null, last_errmsg = null
                where p.id = p_ids[v_n];
                perform wxnotify_ring();
            exception when check_violation then
                -- The rules for a row grew stricter since it was inserted. The message names the rule, not the text.
                perform wxnotify_finish_carefully(v_row.appid, array[p_ids[v_n]], array['dead'], 'worker', p_worker, p_errmsgs => array[sqlerrm],
                    p_credits => array['kept']);
            end;
            continue;
        end if;
        continue when v_row.login_claims <> p_claims[v_n];
        insert into notification_attempts (notification_id, appid, attempt, result, errcode, errmsg, rid, reason, worker, finished_at)
        values (p_ids[v_n], v_row.appid, v_row.attempts, case when p_dead[v_n] then 'dead' else 'retry' end, p_errcodes[v_n], left(p_errmsgs[v_n], 500),
            p_rids[v_n], 'exchange of the login code', p_worker, v_now);
        if p_dead[v_n] then
            v_spent := case
                when p_errcodes[v_n] not in (40163, 40029) then null
                when v_row.login_unclear > 1 then 'the login code was used up by an exchange whose answer was lost'
                when v_row.last_errcode = -1 then 'the login code was used up by an exchange that WeChat answered with -1' end;
            update pending_notifications p set last_errcode = null where p.id = p_ids[v_n] and v_spent is not null;
            perform wxnotify_finish_carefully(v_row.appid, array[p_ids[v_n]], array['dead'], 'worker', p_worker,
                array[case when v_spent is null then p_errcodes[v_n] end], array[coalesce(v_spent, left(p_errmsgs[v_n], 500))],
                p_credits => array[p_credits[v_n]]);
        else
            update pending_notifications p
            set login_at = least(v_now + make_interval(secs => p_after_secs[v_n]), p.login_until),
                login_unclear = p.login_unclear - (not p_unclear[v_n])::int, last_errcode = p_errcodes[v_n], last_errmsg = left(p_errmsgs[v_n], 500)
            where p.id = p_ids[v_n];
        end if;
    end loop;
    return v_kept;
end $$;

comment on function wxnotify_settle_logins is 'Records what exchanges of login codes brought.';

grant execute on function wxnotify_settle_logins to wxnotify_worker;
