-- Uses the oldest held credit of the pair that nobody else is using and that lives until it is to be sent. Returns its id;
-- null: none is free. One try a row, each in a subtransaction: under REPEATABLE READ another's arm is a serialization
-- failure of that row alone.
create or replace function arm(p_appid text, p_openid text, p_template_id text, p_data jsonb, p_send_at timestamptz default null,
    p_page text default null, p_expire_at timestamptz default null) returns bigint
language plpgsql volatile security definer set search_path from current set gin_fuzzy_search_limit = 0 set enable_seqscan = off as $$
declare
    v_id      bigint;
    v_held    boolean;
    v_refused text;   -- why a row could not be armed: the words of its rule
    v_column  text;
    v_hint    text;
begin
    if not wxnotify_may_name(p_appid) then
        raise exception 'mini-program %: % is confined to others', wxnotify_legible(p_appid), session_user using errcode = 'insufficient_privilege',
            hint = 'The owner of the tables confines logins: confine_producer().';
    end if;
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
        exception
            when serialization_failure then
                null;
            when check_violation then
                -- Of this row alone, which may be older than a rule, or of what it is armed with: then the next one says the same.
                get stacked diagnostics v_refused = message_text, v_column = column_name, v_hint = pg_exception_hint;
        end;
    end loop;
    if v_refused is not null then
        raise exception using errcode = 'check_violation', table = 'pending_notifications', column = v_column, message = v_refused, hint = v_hint;
    end if;
    return null;
end $$;

comment on function arm is 'Uses the oldest held credit of (appid, openid, template_id): gives it data and a time. Returns its id, or null when none is free.';

grant execute on function arm to wxnotify_producer;
