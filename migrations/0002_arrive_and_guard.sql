-- What happens when producers touch pending_notifications: rows are checked and get their due time on INSERT, rows in
-- flight are out of reach of UPDATE and DELETE, a DELETE is a cancel, and a sleeping worker is woken.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- When something must next happen to a row that waits for nothing but its time.
create function wxnotify_next_due(p_held boolean, p_send_at timestamptz, p_expire_at timestamptz) returns timestamptz
language sql volatile set search_path from current as $$
    select least(case when p_held then 'infinity' else greatest(p_send_at, clock_timestamp()) end, p_expire_at)
$$;

create function wxnotify_ring() returns void
language plpgsql security definer set search_path from current as $$
begin
    if (select last_value from notification_bell) > 0 then
        perform pg_notify('wxnotify', '');
    end if;
end $$;

-- Checks a row and gives it its due time. Messages name the column, the field and the rule but never the value:
-- a database log keeps error messages, and a violated CHECK or NOT NULL would print the whole row there, so every rule
-- is looked at here first. It uses nothing but pg_catalog, hence needs no search_path of its own (a SET on a function
-- that runs for every row costs as much as the checks). The pieces of its patterns are set in here: to put a pattern
-- together for every row would cost as much again.
do $do$
declare
    v_month constant text := '(?:0?[1-9]|1[0-2])';
    v_day   constant text := '(?:0?[1-9]|[12][0-9]|3[01])';
    v_ri    constant text := '(?:[0-9]{4}年)?' || v_month || '月' || v_day || '日';
    v_date  constant text := '(?:' || v_ri || '|[0-9]{4}年' || v_month || '月|[0-9]{4}-' || v_month || '(?:-' || v_day || ')?|[0-9]{4}/' || v_month
                          || '(?:/' || v_day || ')?|[0-9]{4}[.]' || v_month || '(?:[.]' || v_day || ')?|' || v_month || '[-/.]' || v_day || ')';
    v_clock constant text := '(?:[01]?[0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9])?';
    v_time  constant text := '(?:' || v_date || ' |' || v_ri || ')?' || v_clock;
    -- 31 April, 30 February, 29 February in a year that has none.
    v_never constant text := '(?:^|[^0-9])(?:(?:0?[469]|11)[-月/.]31|0?2[-月/.]3[01]'
                          || '|(?:[0-9]{2}(?:[02468][1235679]|[13579][01345789])|(?:[02468][1235679]|[13579][01345789])00)[-年/.]0?2[-月/.]29)';
    v_han   constant text := '\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af';
    v_sign  constant text := '!-/:-@[-`{-~\u00a1-\u00a9\u00ab-\u00b1\u00b4\u00b6-\u00b8\u00bb\u00bf\u00d7\u00f7\u2010-\u2027\u2030-\u205e\u20a0-\u20bf'
                          || '\u2190-\u23ff\u2500-\u2775\u2794-\u2bff\ufe0f\U0001f300-\U0001faff';
begin
execute replace(replace(replace(replace(replace(replace(replace($fn$
create function wxnotify_arrive() returns trigger language plpgsql as $$
declare
    v_key   text;
    v_value jsonb;
    v_text  text;
    v_json  text;
    v_chars int;
    v_fault text;
    v_plain boolean;
    v_joint text;
    v_field text;
begin
    if tg_op = 'INSERT' then
        -- Object mappers write NULL where the application said nothing.
        if new.kind is null or new.data is null or new.miniprogram_state is null or new.lang is null or new.held is null
           or new.lane is null or new.on_doubt is null or new.attempts_max is null or new.created_at is null then
            new.kind := coalesce(new.kind, 'one_time');
            new.data := coalesce(new.data, '{}');
            new.miniprogram_state := coalesce(new.miniprogram_state, 'formal');
            new.lang := coalesce(new.lang, 'zh_CN');
            new.held := coalesce(new.held, false);
            new.lane := coalesce(new.lane, 1);
            new.on_doubt := coalesce(new.on_doubt, 'retry');
            new.attempts_max := coalesce(new.attempts_max, 8);
            new.created_at := coalesce(new.created_at, now());
        end if;
        if new.attempts <> 0 or new.rescues <> 0 or new.waiting_for is not null or new.in_doubt_since is not null
           or new.last_lease is not null or new.last_errcode is not null or new.last_errmsg is not null
           or new.last_attempt_at is not null or new.producer is distinct from session_user
           or new.attempts is null or new.rescues is null then
            new.attempts := 0;
            new.rescues := 0;
            new.waiting_for := null;
            new.in_doubt_since := null;
            new.last_lease := null;
            new.last_errcode := null;
            new.last_errmsg := null;
            new.last_attempt_at := null;
            new.producer := session_user;
        end if;
    end if;

    -- A number such as 1e100000 is a few bytes in jsonb and a great many as text: what is beyond measure is never written out.
    v_json := case when pg_column_size(new.data) <= 16384 then new.data::text end;
    if (length(new.appid) <= 64 and new.appid <> '' and (length(new.openid) <= 128 and new.openid <> '' or new.openid is null and new.login_code is not null)
        and length(new.template_id) <= 128 and new.template_id <> ''
        and (new.kind = 'one_time' or new.kind in ('long_term', 'device', 'service_card')) and new.lane between 0 and 2 and new.attempts_max between 1 and 100
        and (new.on_doubt = 'retry' or new.on_doubt = 'hold')
        and (new.miniprogram_state = 'formal' or new.miniprogram_state in ('trial', 'developer'))
        and (new.lang = 'zh_CN' or new.lang in ('en_US', 'zh_HK', 'zh_TW')) and v_json like '{%' and octet_length(v_json) <= 4096
        and (new.page is null or (length(new.page) <= 1024 and new.page <> '' and new.page not like '/%'))
        and (new.send_at is null or new.send_at between '2000-01-01+00' and '2199-12-31+00')
        and (new.expire_at is null or new.expire_at between '2000-01-01+00' and '2199-12-31+00')
        and new.created_at between '2000-01-01+00' and '2199-12-31+00'
        and (new.dedup_key is null or length(new.dedup_key) between 1 and 200)
        and (new.business_ref is null or length(new.business_ref) between 1 and 200)
        and (new.extra is null or octet_length(new.extra::text) <= 4096)
        and (v_json <> '{}' or new.held or new.kind = 'service_card')) is not true then
        v_fault := case
            when new.appid is null or length(new.appid) not between 1 and 64 then 'appid: 1 to 64 characters are required'
            when new.openid is null and new.login_code is null or length(new.openid) not between 1 and 128 then 'openid: a receiver of 1 to 128 characters is required, or a login_code'
            when new.template_id is null or length(new.template_id) not between 1 and 128 then 'template_id: 1 to 128 characters are required'
            when new.kind is null or new.kind not in ('one_time', 'long_term', 'device', 'service_card') then 'kind: must be one_time, long_term, device or service_card'
            when new.lane is null or new.lane not between 0 and 2 then 'lane: must be 0 (urgent), 1 (normal) or 2 (bulk)'
            when new.attempts_max is null or new.attempts_max not between 1 and 100 then 'attempts_max: must be 1 to 100'
            when new.on_doubt is null or new.on_doubt not in ('retry', 'hold') then 'on_doubt: must be retry or hold'
            when new.miniprogram_state is null or new.miniprogram_state not in ('formal', 'trial', 'developer') then 'miniprogram_state: must be formal, trial or developer'
            when new.lang is null or new.lang not in ('zh_CN', 'en_US', 'zh_HK', 'zh_TW') then 'lang: must be zh_CN, en_US, zh_HK or zh_TW'
            when pg_column_size(new.data) > 16384 then 'data: at most 4096 bytes are allowed'
            when v_json is null or left(v_json, 1) <> '{' then 'data: must be a JSON object such as {"thing2": {"value": "…"}}, not a string or an array'
            when octet_length(v_json) > 4096 then format('data: %s bytes, at most 4096 are allowed', octet_length(v_json))
            when left(new.page, 1) = '/' then 'page: must not begin with a slash (WeChat answers 41030)'
            when length(new.page) not between 1 and 1024 then 'page: must be 1 to 1024 characters, or null'
            when new.send_at not between '2000-01-01+00' and '2199-12-31+00' then 'send_at: must be finite, after 2000 and before 2200; null means now, held = true means not yet'
            when new.expire_at not between '2000-01-01+00' and '2199-12-31+00' then 'expire_at: must be finite, after 2000 and before 2200; null means never'
            when new.created_at is null or new.created_at not between '2000-01-01+00' and '2199-12-31+00' then 'created_at: must be finite, after 2000 and before 2200'
            when length(new.dedup_key) not between 1 and 200 then 'dedup_key: must be 1 to 200 characters, or null'
            when length(new.business_ref) not between 1 and 200 then 'business_ref: must be 1 to 200 characters, or null'
            when octet_length(new.extra::text) > 4096 then format('extra: %s bytes, at most 4096 are allowed', octet_length(new.extra::text))
            when v_json = '{}' and new.kind <> 'service_card' then 'data: is empty; only a held row may wait for its data'
            else 'held: must be true or false'
        end;
        raise exception using errcode = 'check_violation', table = tg_table_name, column = split_part(v_fault, ':', 1),
            message = 'pending_notifications.' || v_fault, hint = 'Nothing was stored. Correct the column and insert the row again.';
    end if;

    -- A quick look first, since a pass through jsonb_each costs more than all the rules: the text of a plain row, {"type1": {"value":
    -- "text"}, …} or {"type1": "text", …}, is cut at its quotes. Without an escape each quote begins or ends a string, so that a key
    -- and a text without one are a whole key and its whole value. It accepts a row whose every field is of a common type and
    -- shape; any other is looked at closely. What it accepts must be right by the rules below, which also find the words.
    -- No blank is beyond U+3000 = 12288, and every month has a 28th.
    v_plain := v_json <> '{}' and v_json !~ '[\\\u007f-\u009f\u2028\u2029]';
    if v_plain then
        v_joint := case when strpos(v_json, '": {"value": "') > 0 then '": {"value": "' else '": "' end;
        foreach v_field in array case v_joint when '": "' then string_to_array(substr(v_json, 3, length(v_json) - 4), '", "')
                                              else string_to_array(substr(v_json, 3, length(v_json) - 5), '"}, "') end loop
            v_key := split_part(v_field, v_joint, 1);
            v_text := split_part(v_field, v_joint, 2);
            if (strpos(v_text, '"') = 0 and case rtrim(v_key, '0123456789')
                    when v_key then false
                    when 'thing' then length(v_text) <= 20 and (ascii(v_text) between 33 and 126 or ascii(v_text) > 12288)
                    when 'time' then translate(v_text, '123456789', '000000000') in ('0000年00月00日 00:00', '0000-00-00 00:00')
                        and substr(v_text, 6, 2) between '01' and '12' and substr(v_text, 9, 2) between '01' and '28'
                        and right(v_text, 5) < '24' and right(v_text, 2) < '60'
                    when 'date' then translate(v_text, '123456789', '000000000') in ('0000年00月00日', '0000-00-00')
                        and substr(v_text, 6, 2) between '01' and '12' and substr(v_text, 9, 2) between '01' and '28'
                    when 'character_string' then length(v_text) <= 32 and ascii(v_text) > 32 and v_text !~ '[^ -~]'
                    when 'phrase' then length(v_text) <= 5 and v_text <> '' and v_text !~ '[^\u4e00-\u9fff]'
                    when 'amount' then length(v_text) <= 10 and v_text ~ '^[¥￥$€£]?[0-9]+([.][0-9]+)?元?$'
                    when 'number' then length(v_text) <= 32 and v_text ~ '^[0-9]+([.][0-9]+)?$'
                    when 'name' then length(v_text) <= 10 and (ascii(v_text) between 33 and 126 or ascii(v_text) > 12288) and v_text !~ '[0-9０-９]'
                    when 'phone_number' then length(v_text) <= 17 and v_text <> '' and v_text not like ' %' and v_text !~ '[^-0-9+()*#~ ]'
                    when 'car_number' then length(v_text) <= 8 and v_text ~ '^[A-Za-z0-9\u4e00-\u9fff][A-Za-z0-9]*[A-Za-z0-9\u4e00-\u9fff]?$'
                    when 'short_thing' then length(v_text) <= 10 and (ascii(v_text) between 33 and 126 or ascii(v_text) > 12288)
                    when 'const' then length(v_text) <= 20 and (ascii(v_text) between 33 and 126 or ascii(v_text) > 12288)
                    else false
                end) is not true then
                v_plain := false;
                exit;
            end if;
        end loop;
    end if;

    -- A service card has rules of its own: wxnotify_arrive_kind.
    if not v_plain and new.kind <> 'service_card' then
        for v_key, v_value in select key, value from jsonb_each(new.data) loop
            v_text := case jsonb_typeof(v_value)
                when 'object' then case when jsonb_typeof(v_value -> 'value') in ('string', 'number') then v_value ->> 'value' end
                when 'string' then v_value #>> '{}'
                when 'number' then v_value #>> '{}'
            end;
            v_chars := length(v_text);
            if v_text is null then
                v_fault := 'needs text: {"value": "…"} or just "…"';
            elsif btrim(v_text, E' \t\n\u000b\f\r\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000') = '' then
                v_fault := case when v_text <> '' or rtrim(v_key, '0123456789') <> 'const' then 'is empty; use a filler such as 无 or -' end;
            else
                -- The type is the key without its number. The rules are those of WeChat's template parameters.
                v_fault := case rtrim(v_key, '0123456789')
                    when v_key then 'is no field name: a type and a number such as thing2'
                    when 'thing' then case when v_chars > 20 then 'at most 20 characters' end
                    when 'time' then case when v_text !~ '^<time>(?: ?~ ?<time>)?$'
                        then 'a 24-hour clock time such as 15:01 or 2026年11月22日 15:01, ranges with ~ (China Standard Time, no zone)'
                        when v_chars > 8 and v_text ~ '<never>' then 'a day that does not exist' end
                    when 'date' then case when v_text !~ '^(?:<date>(?: <clock>)?|<ri><clock>)(?: ?~ ?(?:<date>|<time>))?$'
                        then 'a date such as 2026年11月22日 or 2026-11-22, a clock time may follow, ranges with ~'
                        when v_text ~ '<never>' then 'a day that does not exist' end
                    when 'phrase' then case when v_chars > 5 or v_text ~ '[^<han>]' then 'at most 5 Chinese characters and nothing else' end
                    when 'number' then case when v_text !~ '^[0-9]+([.][0-9]+)?$' or v_chars - (strpos(v_text, '.') > 0)::int > 32 then 'at most 32 digits, decimals allowed, nothing else' end
                    when 'amount' then case when v_text !~ '^[¥￥$€£₩฿₽]?[0-9]{1,10}([.][0-9]+)?元?$' then 'a currency sign, at most 10 digits with decimals, 元 may follow' end
                    when 'character_string' then case when v_chars > 32 then 'at most 32 characters'
                        when v_text ~ '[^ A-Za-z0-9<sign>]' then 'digits, letters and symbols only, no Chinese' end
                    when 'name' then case when v_text ~ '[0-9０-９]' then 'no digits'
                        when v_chars > case when v_text ~ '[^\u0020-\u024f\u1e00-\u1eff\u2010-\u2027]' then 10 else 20 end then 'at most 10 characters with Chinese, or 20 Latin letters and symbols' end
                    when 'phone_number' then case when v_chars > 17 or v_text ~ '[^ 0-9<sign>]' then 'at most 17 digits and symbols' end
                    when 'car_number' then case when v_text !~ '^[A-Za-z0-9<han>][A-Za-z0-9]{0,6}[A-Za-z0-9<han>]?$'
                        then 'at most 8 letters and digits; the first and the last may be Chinese' end
                    when 'letter' then case when v_chars > 32 or v_text ~ '[^A-Za-z]' then 'at most 32 letters and nothing else' end
                    when 'symbol' then case when v_chars > 5 or v_text ~ '[^ <sign>\u3001-\u3003\u3008-\u3020\u3030\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\uffe0-\uffe6]'
                        then 'at most 5 symbols and nothing else' end
                    when 'enum' then null
                    when 'enum_string' then null
                    when 'short_thing' then case when v_chars > 10 then 'at most 10 characters' end
                    else case when v_key !~ '^[a-z_]+[0-9]+$' then 'is no field name: a type and a number such as thing2'
                        when v_chars > 20 then 'at most 20 characters' end
                end;
                if v_fault is null and v_text ~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]' then
                    v_fault := 'no line breaks or other control characters';
                end if;
            end if;
            if v_fault is not null then
                raise exception using errcode = 'check_violation', table = tg_table_name, column = 'data',
                    message = format('pending_notifications.data: %s: %s', left(v_key, 64), v_fault) || coalesce(' (' || v_chars || ' characters given)', ''),
                    hint = 'Nothing was stored. WeChat refuses such a message with 47003 and truncates nothing: correct the field and insert the row again.';
            end if;
        end loop;
    end if;

    if tg_op = 'INSERT' then
        new.due := least(case when new.held or new.openid is null then 'infinity' else greatest(new.send_at, clock_timestamp()) end, new.expire_at);
    end if;
    return new;
end $$
$fn$, '<time>', v_time), '<date>', v_date), '<clock>', v_clock), '<ri>', v_ri), '<never>', v_never), '<han>', v_han), '<sign>', v_sign);
end $do$;

-- Keeps a producer's UPDATE and DELETE away from rows in flight or in doubt (they report 0 rows), turns a DELETE into a
-- cancel, and gives a rescheduled row its new due time. The row is locked before a BEFORE trigger runs, and the look at
-- the leases is a later statement with a newer snapshot: a lease either sees our lock or is seen here. Above READ
-- COMMITTED that snapshot would be old; only held rows, which are never leased, may be changed there.
create function wxnotify_guard() returns trigger
language plpgsql security definer set search_path from current set enable_seqscan = off as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' and not (tg_op = 'UPDATE' and old.held) then
        raise exception 'pending_notifications: rows can be changed in READ COMMITTED only, not in %', upper(current_setting('transaction_isolation'))
            using hint = 'Use a transaction of its own: BEGIN ISOLATION LEVEL READ COMMITTED.';
    end if;
    if old.in_doubt_since is not null
       -- A row that its lease has settled already is not in flight, though the lease may still hold others.
       or exists (select 1 from notification_leases l
                  where l.appid = old.appid and old.id = any (l.ids) and l.lease_id is distinct from old.last_lease) then
        return null;
    end if;
    if tg_op = 'DELETE' then
        insert into notification_history (id, appid, status, kind, openid, template_id, page, data, extra, miniprogram_state, lang, send_at,
            held, expire_at, lane, dedup_key, business_ref, on_doubt, attempts_max, created_at, producer, attempts, errcode, errmsg,
            settled_by, last_attempt_at, finished_at)
        values (old.id, old.appid, 'cancelled', old.kind, old.openid, old.template_id, old.page, old.data, old.extra, old.miniprogram_state, old.lang, old.send_at,
            old.held, old.expire_at, old.lane, old.dedup_key, old.business_ref, old.on_doubt, old.attempts_max, old.created_at, old.producer, old.attempts,
            old.last_errcode, old.last_errmsg, 'producer', old.last_attempt_at, clock_timestamp());
    else
        if new.id <> old.id or new.appid is distinct from old.appid then
            raise exception 'pending_notifications: id and appid of notification % cannot change', old.id
                using hint = 'DELETE the row and INSERT another.';
        end if;
        if new.login_code is distinct from old.login_code or (old.login_code is not null and new.openid is distinct from old.openid) then
            raise exception 'pending_notifications: login_code of notification % cannot change', old.id
                using hint = 'It may be on its way to WeChat. DELETE the row and INSERT another.';
        end if;
        new.due := old.due;
        new.waiting_for := old.waiting_for;
        new.attempts := old.attempts;
        new.rescues := old.rescues;
        new.in_doubt_since := old.in_doubt_since;
        new.last_lease := old.last_lease;
        new.last_errcode := old.last_errcode;
        new.last_errmsg := old.last_errmsg;
        new.last_attempt_at := old.last_attempt_at;
        -- Whose row it is follows the words: who arms a credit has its status, and may still change it.
        new.producer := case when old.held and not new.held then session_user else old.producer end;
        new.login_at := old.login_at;
        new.login_until := old.login_until;
        new.login_claims := old.login_claims;
        new.login_unclear := old.login_unclear;
        if (new.send_at, new.held, new.openid, new.template_id, new.dedup_key)
           is distinct from (old.send_at, old.held, old.openid, old.template_id, old.dedup_key) then
            new.due := wxnotify_next_due(new.held or new.openid is null, new.send_at, new.expire_at);
            new.waiting_for := case when new.openid is null then 'login' end;
        elsif new.expire_at is distinct from old.expire_at then
            new.due := least(case when old.due = old.expire_at then wxnotify_next_due(new.held or new.openid is null, new.send_at, null) else old.due end, new.expire_at);
        end if;
    end if;
    return case tg_op when 'DELETE' then old else new end;
end $$;

-- A row that was cancelled or rescheduled gives up its dedup key, and those who waited for it may go. AFTER the row: a
-- BEFORE trigger that updates another row of the same statement would make the statement fail.
create function wxnotify_free_key() returns trigger
language plpgsql security definer set search_path from current set enable_seqscan = off as $$
begin
    if tg_op = 'DELETE' or (new.send_at, new.held, new.openid, new.template_id, new.dedup_key)
           is distinct from (old.send_at, old.held, old.openid, old.template_id, old.dedup_key) then
        delete from notification_keys k where k.appid = old.appid and k.dedup_key = old.dedup_key and k.id = old.id;
        if found then
            perform wxnotify_wake_duplicates(old.appid, array[old.dedup_key]);
        end if;
    end if;
    return null;
end $$;

create function wxnotify_bell() returns trigger
language plpgsql security definer set search_path from current as $$
begin
    perform wxnotify_ring();
    return null;
end $$;

create function wxnotify_refuse_truncate() returns trigger
language plpgsql as $$
begin
    raise exception '%: TRUNCATE would lose notifications without a trace', tg_table_name
        using hint = 'DELETE cancels rows and records them in notification_history.';
end $$;

create trigger arrive before insert or update of appid, kind, openid, login_code, template_id, page, data, extra, miniprogram_state, lang, send_at, held, expire_at, lane,
    dedup_key, business_ref, on_doubt, attempts_max, created_at on pending_notifications for each row execute function wxnotify_arrive();
-- Functions of wxnotify pass the guard: each has a SET of this parameter, which acts in GIN indexes alone, and here are none. A
-- parameter of our own would say it better, but only a superuser may put one into a function, and a managed database has none.
-- Any session may set it, which is why the right to lease is asked for too.
create trigger guard before update or delete on pending_notifications for each row
    when (current_setting('gin_fuzzy_search_limit') <> '20784' or not has_table_privilege('notification_leases'::regclass, 'insert'))
    execute function wxnotify_guard();
create trigger free_key after update or delete on pending_notifications for each row
    when (old.dedup_key is not null
          and (current_setting('gin_fuzzy_search_limit') <> '20784' or not has_table_privilege('notification_leases'::regclass, 'insert')))
    execute function wxnotify_free_key();
-- AFTER: by then the inserting transaction has an id, so a worker that arms the bell and then waits for older transactions cannot miss it.
create trigger bell after insert or update of send_at, held, expire_at on pending_notifications for each statement execute function wxnotify_bell();
create trigger refuse_truncate before truncate on pending_notifications for each statement execute function wxnotify_refuse_truncate();

revoke execute on function wxnotify_next_due, wxnotify_ring, wxnotify_arrive, wxnotify_guard, wxnotify_free_key, wxnotify_bell, wxnotify_refuse_truncate from public;
comment on function wxnotify_next_due is 'When something must next happen to a row that waits for nothing but its time.';
comment on function wxnotify_ring is 'Wakes sleeping workers; costs nothing while none sleeps.';
comment on function wxnotify_arrive is 'Trigger: checks a row, names the column, the field and the rule it breaks, and sets due.';
comment on function wxnotify_guard is 'Trigger: rows in flight or in doubt are out of reach; DELETE is a cancel; a reschedule sets due anew.';
comment on function wxnotify_free_key is 'Trigger: a cancelled or rescheduled row gives up its dedup key.';
comment on function wxnotify_bell is 'Trigger: wakes a sleeping worker after INSERT and after a reschedule.';
comment on function wxnotify_refuse_truncate is 'Trigger: TRUNCATE would lose rows without a trace.';
