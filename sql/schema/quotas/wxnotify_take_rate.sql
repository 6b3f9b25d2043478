-- Grants up to p_want sends of an app's rate, at most this worker's share of one second; the caller uses them within that
-- second. What nobody took for an eighth of a second is lost, so that no burst follows an idle hour. Less than a twentieth of a second of
-- the rate is not granted, unless no more is wanted: each slice costs a lease, a start and a settle, whatever it holds. An app without
-- a rate is granted all it wants.
create or replace function wxnotify_take_rate(p_appid text, p_want int, p_workers int) returns integer
language plpgsql volatile set search_path from current set enable_seqscan = off as $$
declare
    v_rate    real := wxnotify_app_rate(p_appid);
    v_tokens  real;
    v_granted int;
begin
    if v_rate is null then
        return p_want;
    end if;
    insert into wechat_rates (appid, tokens, filled_at) values (p_appid, 1, clock_timestamp()) on conflict do nothing;
    select least(greatest(v_rate / 8, 1), r.tokens + v_rate * extract(epoch from clock_timestamp() - r.filled_at)) into v_tokens
    from wechat_rates r where r.appid = p_appid for update;
    v_granted := least(p_want, floor(v_tokens), ceil(greatest(v_rate, 1) / greatest(p_workers, 1)))::int;
    if v_granted < least(p_want, floor(v_rate / 20), ceil(greatest(v_rate, 1) / greatest(p_workers, 1))) then
        return 0;
    end if;
    if v_granted > 0 then
        update wechat_rates set tokens = v_tokens - v_granted, filled_at = clock_timestamp() where appid = p_appid;
    end if;
    return greatest(v_granted, 0);
end $$;

comment on function wxnotify_take_rate is 'Grants a slice of a mini-program''s rate.';

grant execute on function wxnotify_take_rate to wxnotify_worker;
