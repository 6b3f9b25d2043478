-- Claims up to p_rows login codes of these mini-programs for p_secs. The claim is durable before the call: whoever finds a
-- lapsed claim knows that the code may have been used. What cannot succeed any more is dead-lettered without a call, for
-- every mini-program: codes past their 5 minutes, and those that two calls without an answer may have used.
create or replace function wxnotify_claim_logins(p_appids text[], p_rows int, p_secs float8)
returns table (id bigint, appid text, code text, claim smallint)
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set enable_bitmapscan = off
    set enable_sort = off set jit = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
    v_now   timestamptz := clock_timestamp();
    v_appid text;
    v_ids   bigint[];
    v_words text[];
    v_left  int := p_rows;
begin
    perform wxnotify_need_read_committed();
    select p.appid into v_appid from pending_notifications p where p.login_code is not null order by p.appid, p.login_at limit 1;
    while v_appid is not null loop
        select array_agg(d.id), array_agg(d.words) into v_ids, v_words from (
            select p.id, case
                when p.login_unclear >= 2 then 'the login code was sent to WeChat twice and no answer came back: it is most likely used up'
                when p.login_unclear = 1 then 'the login code was sent to WeChat, the answer was lost, and its 5 minutes are over'
                else 'the login code was not exchanged within its 5 minutes' || coalesce(': ' || p.last_errmsg, '') end as words
            from pending_notifications p
            where p.appid = v_appid and p.login_code is not null and p.login_at <= v_now and (p.login_until <= v_now or p.login_unclear >= 2)
            limit 1000 for update skip locked) d;
        if v_ids is not null then
            -- The reason is one of these, not the errcode of an earlier try.
            update pending_notifications p set last_errcode = null where p.id = any (v_ids) and p.last_errcode is not null;
            perform wxnotify_finish_carefully(v_appid, v_ids, array_fill('dead'::text, array[cardinality(v_ids)]), 'policy', null, p_errmsgs => v_words,
                p_credits => array_fill('kept'::text, array[cardinality(v_ids)]));
        end if;
        if v_left > 0 and v_appid = any (p_appids)
           and exists (select from wechat_apps a where a.appid = v_appid and (a.paused_until is null or a.paused_until <= v_now)) then
            return query
                with picked as materialized (
                    select p.id from pending_notifications p
                    where p.appid = v_appid and p.login_code is not null and p.login_at <= v_now and p.login_until > v_now and p.login_unclear < 2
                      and (p.expire_at is null or p.expire_at > v_now)
                    order by p.login_at limit v_left for update skip locked)
                update pending_notifications p
                set login_at = clock_timestamp() + make_interval(secs => p_secs), login_claims = p.login_claims + 1, login_unclear = p.login_unclear + 1
                where p.id = any (array(select picked.id from picked))
                returning p.id, p.appid, p.login_code, p.login_claims;
            get diagnostics v_left = row_count;
            v_left := p_rows - v_left;
        end if;
        select p.appid into v_appid from pending_notifications p where p.login_code is not null and p.appid > v_appid order by p.appid, p.login_at limit 1;
    end loop;
end $$;

comment on function wxnotify_claim_logins is 'Claims login codes to exchange, and dead-letters those that have expired.';

grant execute on function wxnotify_claim_logins to wxnotify_worker;
