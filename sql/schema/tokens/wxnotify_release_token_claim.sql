create or replace function wxnotify_release_token_claim(p_appid text, p_claim bigint) returns void
language sql volatile set search_path from current as $$
    update wechat_access_tokens set claimed_until = null, claimed_by = null where appid = p_appid and claim = p_claim
$$;

comment on function wxnotify_release_token_claim is 'Gives a claim back after a fetch that failed, so that nobody waits for its time-out.';

grant execute on function wxnotify_release_token_claim to wxnotify_worker;
