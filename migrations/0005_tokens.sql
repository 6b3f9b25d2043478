-- The access token of each mini-program: one row, shared by all workers, replaced once however many ask.
-- Who wants to fetch a token takes a claim, a number with a time-out: no lock, transaction or connection is held
-- while WeChat answers. A late answer to an old claim changes nothing.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create table wechat_access_tokens (
    appid             text primary key,
    access_token      text,
    expires_at        timestamptz,
    generation        bigint not null default 0,
    unchanged         smallint not null default 0,
    fetched_at        timestamptz,
    refreshed_by      text,
    claim             bigint not null default 0,
    claimed_until     timestamptz,
    claimed_by        text,
    forced_count      smallint not null default 0,
    forced_on         date,
    last_forced_at    timestamptz,
    foreign_refreshes bigint not null default 0,
    last_foreign_at   timestamptz,
    constraint token_has_a_sane_length check (octet_length(access_token) between 1 and 2048),
    constraint token_has_a_life check ((access_token is null) = (expires_at is null))
);

comment on table wechat_access_tokens is 'The access token of each mini-program, shared by all workers. Readable by the worker''s role alone.';
comment on column wechat_access_tokens.appid is 'The mini-program.';
comment on column wechat_access_tokens.access_token is 'The token. Secret.';
comment on column wechat_access_tokens.expires_at is 'End of its life by WeChat''s word, less the time the reply took.';
comment on column wechat_access_tokens.generation is 'Grows with each replacement; who reports a failed token names its generation.';
comment on column wechat_access_tokens.unchanged is 'How often in a row WeChat handed back the very token that had failed.';
comment on column wechat_access_tokens.fetched_at is 'When it was fetched last.';
comment on column wechat_access_tokens.refreshed_by is 'The worker that fetched it, name and epoch.';
comment on column wechat_access_tokens.claim is 'Number of the latest claim to fetch a token.';
comment on column wechat_access_tokens.claimed_until is 'Until then others wait for the claim''s result; after it they may claim. Null: nobody fetches.';
comment on column wechat_access_tokens.claimed_by is 'The worker that has the claim.';
comment on column wechat_access_tokens.forced_count is 'Forced refreshes on forced_on; WeChat allows 20 a day.';
comment on column wechat_access_tokens.forced_on is 'The day in China (UTC+8) that forced_count counts.';
comment on column wechat_access_tokens.last_forced_at is 'The last forced refresh; WeChat wants 30 s between two.';
comment on column wechat_access_tokens.foreign_refreshes is 'How often the token died early without us: something else refreshes it by force.';
comment on column wechat_access_tokens.last_foreign_at is 'When that was noticed last.';

-- One round of asking for a token. `verdict`: have (use it), claimed (fetch one, then store or release), wait (somebody
-- else is fetching, ask again). p_failed: the generation that WeChat refused, null if none; it counts only while it is
-- the latest, so a late failure does not throw away a token that was just fetched.
create function wxnotify_claim_token(
    p_appid text, p_worker text, p_failed bigint, p_life_secs_min double precision, p_claim_secs double precision,
    out verdict text, out access_token text, out generation bigint, out life_secs double precision, out unchanged smallint, out claim bigint)
language plpgsql volatile set search_path from current as $$
declare
    v_now timestamptz;
    v_row wechat_access_tokens;
begin
    -- A claim or a token that a crash of the server loses is asked for again: the commit waits for no disk.
    perform set_config('synchronous_commit', 'off', true);
    insert into wechat_access_tokens as t (appid)
    select p_appid where not exists (select from wechat_access_tokens where appid = p_appid)
    on conflict on constraint wechat_access_tokens_pkey do nothing;
    select t.* into strict v_row from wechat_access_tokens t where t.appid = p_appid for update;
    v_now := clock_timestamp();
    if v_row.access_token is not null and v_row.generation > coalesce(p_failed, -1)
       and v_row.expires_at > v_now + p_life_secs_min * interval '1 second' then
        verdict := 'have';
    elsif v_row.claimed_until > v_now and v_row.claimed_by is distinct from p_worker then
        verdict := 'wait';
    else
        verdict := 'claimed';
        update wechat_access_tokens t
           set claim = t.claim + 1, claimed_by = p_worker, claimed_until = v_now + p_claim_secs * interval '1 second'
               -- A token that failed twice takes a wait and two fetches.
               * case when t.unchanged > 0 and p_failed is not null then 3 else 1 end
         where t.appid = p_appid
        returning t.* into v_row;
    end if;
    access_token := v_row.access_token;
    generation := v_row.generation;
    life_secs := extract(epoch from v_row.expires_at - v_now);
    unchanged := v_row.unchanged;
    claim := v_row.claim;
end $$;
comment on function wxnotify_claim_token(text, text, bigint, double precision, double precision) is 'One round of asking for a token: have it, claim the right to fetch one, or wait for who has the claim.';

-- Stores a fetched token. Nothing changes unless the claim is still the latest: a slow reply never overwrites a newer
-- token. p_failed: the generation it replaces because WeChat refused it. `foreign_refresh`: that one died early though
-- nobody here replaced it.
create function wxnotify_store_token(
    p_appid text, p_worker text, p_claim bigint, p_token text, p_life_secs double precision, p_failed bigint,
    out stored boolean, out generation bigint, out foreign_refresh boolean)
language plpgsql volatile set search_path from current as $$
declare
    v_now     timestamptz;
    v_row     wechat_access_tokens;
    v_changed boolean;
    v_refused boolean;
begin
    perform set_config('synchronous_commit', 'off', true);
    select t.* into strict v_row from wechat_access_tokens t where t.appid = p_appid for update;
    v_now := clock_timestamp();
    stored := v_row.claim = p_claim;
    generation := v_row.generation;
    foreign_refresh := false;
    if not stored then
        return;
    end if;
    v_changed := v_row.access_token is distinct from p_token;
    v_refused := p_failed is not null and v_row.generation = p_failed;
    -- In its last five minutes WeChat may replace it in the ordinary way; after our own force it dies by our hand.
    foreign_refresh := v_refused and v_changed and v_row.expires_at > v_now + interval '5 minutes'
        and (v_row.last_forced_at is null or v_row.fetched_at is null or v_row.last_forced_at <= v_row.fetched_at);
    update wechat_access_tokens t
       set access_token      = p_token,
           expires_at        = v_now + p_life_secs * interval '1 second',
           -- Above the failed one even if this row was lost and began anew.
           generation        = greatest(t.generation, p_failed) + case when v_changed or v_refused then 1 else 0 end,
           unchanged         = case when v_changed then 0 when v_refused then least(t.unchanged + 1, 1000) else t.unchanged end,
           fetched_at        = v_now,
           refreshed_by      = p_worker,
           claimed_until     = null,
           claimed_by        = null,
           foreign_refreshes = t.foreign_refreshes + case when foreign_refresh then 1 else 0 end,
           last_foreign_at   = case when foreign_refresh then v_now else t.last_foreign_at end
     where t.appid = p_appid
    returning t.generation into generation;
end $$;
comment on function wxnotify_store_token(text, text, bigint, text, double precision, bigint) is 'Stores a fetched token, unless the claim it was fetched under is no longer the latest.';

create function wxnotify_release_token_claim(p_appid text, p_claim bigint) returns void
language sql volatile set search_path from current as $$
    update wechat_access_tokens set claimed_until = null, claimed_by = null where appid = p_appid and claim = p_claim
$$;
comment on function wxnotify_release_token_claim(text, bigint) is 'Gives a claim back after a fetch that failed, so that nobody waits for its time-out.';

-- The refresh is counted before it is made: one that is lost on the way may have happened.
create function wxnotify_take_forced_refresh(p_appid text, p_claim bigint) returns boolean
language plpgsql volatile set search_path from current as $$
declare
    v_now   timestamptz := clock_timestamp();
    v_today date := (v_now at time zone 'UTC' + interval '8 hours')::date;
begin
    update wechat_access_tokens
       set forced_count = case when forced_on = v_today then forced_count + 1 else 1 end,
           forced_on = v_today, last_forced_at = v_now
     where appid = p_appid and claim = p_claim
       and (forced_on is distinct from v_today or forced_count < 20)
       and (last_forced_at is null or last_forced_at <= v_now - interval '31 seconds');
    return found;
end $$;
comment on function wxnotify_take_forced_refresh(text, bigint) is 'Takes one of the 20 forced refreshes of the day in China, at least 30 s after the last. False: none is to be had now.';

revoke execute on function
    wxnotify_claim_token(text, text, bigint, double precision, double precision),
    wxnotify_store_token(text, text, bigint, text, double precision, bigint),
    wxnotify_release_token_claim(text, bigint),
    wxnotify_take_forced_refresh(text, bigint)
from public;
