-- Stores a fetched token. Nothing changes unless the claim is still the latest: a slow reply never overwrites a newer
-- token. p_failed: the generation it replaces because WeChat refused it. `foreign_refresh`: that one died early though
-- nobody here replaced it.
create or replace function wxnotify_store_token(
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

comment on function wxnotify_store_token is 'Stores a fetched token, unless the claim it was fetched under is no longer the latest.';

grant execute on function wxnotify_store_token to wxnotify_worker;
