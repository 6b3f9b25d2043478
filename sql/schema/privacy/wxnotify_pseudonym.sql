-- What stands for an erased receiver: the same for one user of one mini-program, so that credits and books still add up, and no way back without
-- the key. WeChat's openids begin with another letter.
create or replace function wxnotify_pseudonym(p_appid text, p_openid text) returns text
language plpgsql stable security definer set search_path from current as $$
begin
    return case when p_openid like 'erased-%' then p_openid
                else 'erased-' || left(encode(sha256((select k.key from privacy_key k) || convert_to(p_appid || ' ' || p_openid, 'UTF8')), 'hex'), 32) end;
end $$;

comment on function wxnotify_pseudonym is 'What stands for an erased receiver.';
