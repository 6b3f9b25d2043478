-- One round of asking for a token. `verdict`: have (use it), claimed (fetch one, then store or release), wait (somebody
-- else is fetching, ask again). p_failed: the generation that WeChat refused, null if none; it counts only while it is
-- the latest, so a late failure does not throw away a token that was just fetched.
create or replace function wxnotify_claim_token(
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

comment on function wxnotify_claim_token is 'One round of asking for a token: have it, claim the right to fetch one, or wait for who has the claim.';

grant execute on function wxnotify_claim_token to wxnotify_worker;
