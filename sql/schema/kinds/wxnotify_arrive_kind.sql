-- What wxnotify_arrive has no business with, since nearly every row is a plain message.
create or replace function wxnotify_arrive_kind() returns trigger
language plpgsql set search_path from current as $$
declare
    v_fault text;
    v_check jsonb := new.extra -> 'check_json';
begin
    if tg_op = 'INSERT' then
        if new.login_code is null then
            new.login_claims := 0;
            new.login_unclear := 0;
            new.login_at := null;
            new.login_until := null;
        else
            -- What a restore brings along is kept: its code may have been used.
            new.login_claims := coalesce(new.login_claims, 0);
            new.login_unclear := coalesce(new.login_unclear, 0);
            new.login_at := coalesce(new.login_at, clock_timestamp());
            -- Counted from here: how old the code is already, only WeChat knows.
            new.login_until := coalesce(new.login_until, new.login_at + interval '5 minutes');
            new.waiting_for := 'login';
        end if;
    end if;
    v_fault := case
        when new.kind not in ('one_time', 'long_term', 'device', 'service_card') then 'kind: must be one_time, long_term, device or service_card'
        when new.data = '{}' and not new.held and new.kind <> 'service_card' then 'data: is empty; only a held row may wait for its data'
        when new.login_code is not null and new.openid is not null then 'login_code: give either the openid or a login_code, not both'
        when length(new.login_code) not between 1 and 256 or new.login_code ~ '[^!-~]' then 'login_code: must be 1 to 256 characters as wx.login gave them, without spaces'
        when new.kind = 'device' then case
            when new.extra is null or jsonb_typeof(new.extra) <> 'object' then 'extra: a device message needs {"sn": "...", "modelId": "..."}'
            when coalesce(jsonb_typeof(new.extra -> 'sn'), '') <> 'string' or new.extra ->> 'sn' !~ '^[0-9A-Za-z_-]+$'
                then 'extra: sn: the device''s serial number, of letters, digits, _ and - only, is required'
            when length(new.extra ->> 'sn') > 128 then format('extra: sn: %s bytes, at most 128 are allowed', length(new.extra ->> 'sn'))
            when coalesce(jsonb_typeof(new.extra -> 'modelId'), '') <> 'string' or length(new.extra ->> 'modelId') not between 1 and 128
                then 'extra: modelId: the device''s model id, of 1 to 128 characters, is required'
            end
        when new.kind = 'service_card' then case
            when new.template_id !~ '^[1-9][0-9]{0,8}$' then 'template_id: of a service card must be its notify_type, a number such as 2001'
            when new.extra is null or jsonb_typeof(new.extra) <> 'object' then 'extra: a service card needs {"notify_code": "..."}'
            when coalesce(jsonb_typeof(new.extra -> 'notify_code'), '') <> 'string' or new.extra ->> 'notify_code' !~ '^[!-~]{1,128}$'
                then 'extra: notify_code: 1 to 128 characters without spaces are required, as text: the transaction id of WeChat Pay or the code of the button'
            when new.extra ? 'ext_json' then case
                when jsonb_typeof(new.extra -> 'ext_json') <> 'object' then 'extra: ext_json: must be a JSON object, not a string; wxnotify makes WeChat''s string of it'
                when new.extra ? 'check_json' then 'extra: check_json: belongs to a state, not to ext_json; insert them as two rows'
                when new.data <> '{}' then 'data: must be empty beside ext_json; insert state and ext_json as two rows'
                end
            when new.held and new.data = '{}' then null
            when coalesce(jsonb_typeof(new.data -> 'cur_status'), '') <> 'number' or new.data ->> 'cur_status' !~ '^[0-9]{1,9}$'
                then 'data: cur_status: the card''s state, a whole number, is required'
            when coalesce(jsonb_typeof(new.data -> 'wxa_path_query'), '') <> 'string' or new.data ->> 'wxa_path_query' = ''
                then 'data: wxa_path_query: the page that the card opens is required'
            when left(new.data ->> 'wxa_path_query', 1) = '/' then 'data: wxa_path_query: must not begin with a slash'
            when new.extra ? 'check_json' then case
                when jsonb_typeof(v_check) <> 'object' then 'extra: check_json: must be a JSON object, not a string; wxnotify makes WeChat''s string of it'
                when coalesce(jsonb_typeof(v_check -> 'pay_amount'), '') <> 'number' or v_check ->> 'pay_amount' !~ '^[0-9]{1,10}$'
                    then 'extra: check_json: pay_amount: the amount in fen, a whole number, is required'
                when coalesce(jsonb_typeof(v_check -> 'pay_time'), '') <> 'number' or v_check ->> 'pay_time' !~ '^[0-9]{1,10}$'
                    then 'extra: check_json: pay_time: the time of the payment in Unix seconds is required'
                when (v_check ->> 'pay_amount')::bigint > 4294967295 or (v_check ->> 'pay_time')::bigint > 4294967295
                    then 'extra: check_json: pay_amount and pay_time are at most 4294967295'
                end
            end
        end;
    if v_fault is not null then
        raise exception using errcode = 'check_violation', table = tg_table_name, column = split_part(v_fault, ':', 1),
            message = 'pending_notifications.' || v_fault, hint = 'Nothing was stored. Correct the column and insert the row again.';
    end if;
    return new;
end $$;

comment on function wxnotify_arrive_kind is 'Trigger: checks what only login codes, device messages and service cards have.';

grant execute on function wxnotify_arrive_kind to wxnotify_worker;
