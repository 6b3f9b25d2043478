-- What stands for an erased receiver: the same for one user of one mini-program, so that credits and books still add up, and no way back without
-- the key. WeChat's openids begin with another letter.
create or replace function wxnotify_pseudonym(p_appid text, p_openid text) returns text
language plpgsql volatile security definer set search_path from current as $$
declare
    v_key bytea := (select k.key from privacy_key k);
begin
    if p_openid like 'erased-%' then
        return p_openid;
    end if;
    -- Not with the schema: a copy of the data alone brings its key along.
    if v_key is null then
        insert into privacy_key (key) values (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex')) on conflict do nothing;
        v_key := (select k.key from privacy_key k);
    end if;
    return 'erased-' || left(encode(sha256(v_key || convert_to(p_appid || ' ' || p_openid, 'UTF8')), 'hex'), 32);
end $$;

comment on function wxnotify_pseudonym is 'What stands for an erased receiver.';
