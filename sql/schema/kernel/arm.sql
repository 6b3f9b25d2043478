-- Uses the oldest held credit of the pair that nobody else is using and that lives until it is to be sent. Returns its id;
-- null: none is free. One try a row, each in a subtransaction: under REPEATABLE READ another's arm is a serialization
-- failure of that row alone.
create or replace function arm(p_appid text, p_openid text, p_template_id text, p_data jsonb, p_send_at timestamptz default null,
    p_page text default null, p_expire_at timestamptz default null) returns bigint
language plpgsql volatile security definer set search_path from current set gin_fuzzy_search_limit = 0 set enable_seqscan = off as $$
declare
    v_id   bigint;
    v_held boolean;
begin
    for v_id in
        select id from pending_notifications
        where appid = p_appid and openid = p_openid and template_id = p_template_id and held
          and (expire_at is null or expire_at > clock_timestamp() and (p_expire_at is not null or expire_at > coalesce(p_send_at, '-infinity')))
        order by id + 0
    loop
        begin
            select held into v_held from pending_notifications where id = v_id for update skip locked;
            continue when v_held is not true;
            update pending_notifications
            set held = false, data = p_data, send_at = p_send_at, page = coalesce(p_page, page), expire_at = coalesce(p_expire_at, expire_at)
            where id = v_id;
            if found then
                return v_id;
            end if;
        exception when serialization_failure then
            null;
        end;
    end loop;
    return null;
end $$;

comment on function arm is 'Uses the oldest held credit of (appid, openid, template_id): gives it data and a time. Returns its id, or null when none is free.';

grant execute on function arm to wxnotify_producer;
