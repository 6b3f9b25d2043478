-- Checks a row and gives it its due time. Messages name the column, the field and the rule but never the value: a database
-- log keeps error messages, and a violated CHECK or NOT NULL would print the whole row there, so every rule is looked at here
-- first.
--
-- A SET clause and SECURITY DEFINER cost as much as some of the checks, and twice as much in two functions: so this one does
-- all that every row needs. It acts as its owner, since producers may not read wechat_templates.
create or replace function wxnotify_arrive() returns trigger
language plpgsql security definer set search_path from current as $$
declare
    v_key   text;
    v_text  text;
    v_json  text;
    v_fault text;
    v_plain boolean;
    v_parts text[];   -- keys and texts in turn
    v_row   text;   -- what decides which fields a row must have
    v_wants text;   -- those fields; empty: any; null: more must be looked at
begin
    if tg_op = 'INSERT' then
        -- Object mappers write NULL where the application said nothing.
        if new.kind is null or new.data is null or new.miniprogram_state is null or new.lang is null or new.held is null
           or new.lane is null or new.on_doubt is null or new.attempts_max is null or new.created_at is null or new.appid is null
           or new.attempts is null or new.rescues is null or new.producer is null then
            new.appid := coalesce(new.appid, wxnotify_default_appid());
            new.kind := coalesce(new.kind, 'one_time');
            new.data := coalesce(new.data, '{}');
            new.miniprogram_state := coalesce(new.miniprogram_state, 'formal');
            new.lang := coalesce(new.lang, 'zh_CN');
            new.held := coalesce(new.held, false);
            new.lane := coalesce(new.lane, 1);
            new.on_doubt := coalesce(new.on_doubt, 'retry');
            new.attempts_max := coalesce(new.attempts_max, 8);
            new.created_at := coalesce(new.created_at, now());
            -- Our columns: a producer has no right to give them (sql/schema/rights); what a restore or a copy gives is kept, a doubt
            -- above all.
            new.attempts := coalesce(new.attempts, 0);
            new.rescues := coalesce(new.rescues, 0);
            new.producer := coalesce(new.producer, session_user);
        end if;
        -- A restore of this table alone names leases of another database: a lease of that number, given out later, would be taken for
        -- the one that settled this row.
        if new.last_lease is not null then
            if new.last_lease > (select last_value from notification_leases_lease_id_seq) then
                new.last_lease := null;
            end if;
        end if;
    end if;

    -- Most rows fit WeChat's list of their template, and most follow a row of the same template: what fits it is remembered in two
    -- parameters until the end of the transaction, since a look at the table for every row would cost half as much as the rest.
    if tg_op = 'INSERT' or (new.appid, new.template_id, new.kind, new.data, new.held)
            is distinct from (old.appid, old.template_id, old.kind, old.data, old.held) then
        v_row := new.appid || ' ' || new.template_id || ' ' || new.kind;
        v_wants := case when current_setting('wxnotify.template', true) = v_row then current_setting('wxnotify.template_fields', true)
                        else wxnotify_template_wants(new.appid, new.template_id, new.kind) end;
        if v_wants is distinct from '' and (jsonb_typeof(new.data) = 'object' and new.data ?& v_wants::text[]
                and new.data - v_wants::text[] = '{}') is not true then
            -- Before the checks, which then see what was cut here.
            new.data := wxnotify_fit_data(new.appid, new.template_id, new.kind, new.data);
        end if;
    end if;

    -- A number such as 1e100000 is a few bytes in jsonb and a great many as text: what is beyond measure is never written out.
    v_json := case when pg_column_size(new.data) <= 16384 then new.data::text end;
    if (length(new.appid) <= 64 and new.appid <> '' and new.appid !~ '[^A-Za-z0-9_-]' and (length(new.openid) <= 128 and new.openid <> '' or new.openid is null and new.login_code is not null)
        and length(new.template_id) <= 128 and new.template_id <> ''
        and new.kind is not null and new.lane between 0 and 2 and new.attempts_max between 1 and 100
        and (new.on_doubt = 'retry' or new.on_doubt = 'hold')
        and (new.miniprogram_state = 'formal' or new.miniprogram_state in ('trial', 'developer'))
        and (new.lang = 'zh_CN' or new.lang in ('en_US', 'zh_HK', 'zh_TW')) and v_json like '{%' and octet_length(v_json) <= 4096
        and (new.page is null or (length(new.page) <= 1024 and new.page <> '' and new.page not like '/%' and new.page not like '%://%'
                                  and new.page !~ E'[\\u0001-\\u0020\\u007f-\\u00a0\\u00ad\\u061c\\u1680\\u180e\\u2000-\\u200f\\u2028-\\u202f\\u205f-\\u206f\\u3000\\ufeff]'))
        and (new.send_at is null or new.send_at between '2000-01-01+00' and '2199-12-31+00')
        and (new.expire_at is null or new.expire_at between '2000-01-01+00' and '2199-12-31+00')
        and new.created_at >= '2000-01-01+00' and (new.created_at <= now() or new.created_at <= now() + interval '10 minutes')
        and (new.dedup_key is null or length(new.dedup_key) between 1 and 200)
        and (new.business_ref is null or length(new.business_ref) between 1 and 200)
        and (new.business_ref is null and new.dedup_key is null or concat(new.business_ref, new.dedup_key) !~ E'[\\u0001-\\u001f\\u007f-\\u009f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]')
        and (new.extra is null or pg_column_size(new.extra) <= 16384 and octet_length(new.extra::text) <= 4096)
        and (v_json <> '{}' or new.held or new.kind not in ('one_time', 'long_term'))) is not true then
        v_fault := case
            when new.appid is null or length(new.appid) not between 1 and 64 or new.appid ~ '[^A-Za-z0-9_-]' then 'appid: 1 to 64 letters, digits, _ or - are required'
            when new.openid is null and new.login_code is null or length(new.openid) not between 1 and 128 then 'openid: a receiver of 1 to 128 characters is required, or a login_code'
            when new.template_id is null or length(new.template_id) not between 1 and 128 then 'template_id: 1 to 128 characters are required'
            when new.kind is null then 'kind: must not be null; leave it out for one_time'
            when new.lane is null or new.lane not between 0 and 2 then 'lane: must be 0 (urgent), 1 (normal) or 2 (bulk)'
            when new.attempts_max is null or new.attempts_max not between 1 and 100 then 'attempts_max: must be 1 to 100'
            when new.on_doubt is null or new.on_doubt not in ('retry', 'hold') then 'on_doubt: must be retry or hold'
            when new.miniprogram_state is null or new.miniprogram_state not in ('formal', 'trial', 'developer') then 'miniprogram_state: must be formal, trial or developer'
            when new.lang is null or new.lang not in ('zh_CN', 'en_US', 'zh_HK', 'zh_TW') then 'lang: must be zh_CN, en_US, zh_HK or zh_TW'
            when pg_column_size(new.data) > 16384 then 'data: at most 4096 bytes are allowed'
            when v_json is null or left(v_json, 1) <> '{' then 'data: must be a JSON object such as {"thing2": {"value": "..."}}, not a string or an array'
            when octet_length(v_json) > 4096 then format('data: %s bytes, at most 4096 are allowed', octet_length(v_json))
            when left(new.page, 1) = '/' then 'page: must not begin with a slash (WeChat answers 41030)'
            when length(new.page) not between 1 and 1024 then 'page: must be 1 to 1024 characters, or null'
            when new.page like '%://%' then 'page: must be a path in the mini-program, not an address (WeChat answers 41030)'
            when new.page ~ E'[\\u0001-\\u0020\\u007f-\\u00a0\\u00ad\\u061c\\u1680\\u180e\\u2000-\\u200f\\u2028-\\u202f\\u205f-\\u206f\\u3000\\ufeff]'
                then 'page: must hold no blanks, line breaks or other invisible characters; write a blank in the query as %20'
            when new.send_at not between '2000-01-01+00' and '2199-12-31+00' then 'send_at: must be finite, after 2000 and before 2200; null means now, held = true means not yet'
            when new.expire_at not between '2000-01-01+00' and '2199-12-31+00' then 'expire_at: must be finite, after 2000 and before 2200; null means never'
            when new.created_at is null or new.created_at not between '2000-01-01+00' and now() + interval '10 minutes'
                then 'created_at: must be after 2000 and no later than 10 minutes from now; it says when the user tapped'
            when length(new.dedup_key) not between 1 and 200 then 'dedup_key: must be 1 to 200 characters, or null'
            when length(new.business_ref) not between 1 and 200 then 'business_ref: must be 1 to 200 characters, or null'
            when new.business_ref ~ E'[\\u0001-\\u001f\\u007f-\\u009f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]' then 'business_ref: must hold no line breaks, control characters or marks that turn the direction of text'
            when new.dedup_key ~ E'[\\u0001-\\u001f\\u007f-\\u009f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]' then 'dedup_key: must hold no line breaks, control characters or marks that turn the direction of text'
            when pg_column_size(new.extra) > 16384 then 'extra: at most 4096 bytes are allowed'
            when octet_length(new.extra::text) > 4096 then format('extra: %s bytes, at most 4096 are allowed', octet_length(new.extra::text))
            when v_json = '{}' and not new.held and new.kind in ('one_time', 'long_term') then 'data: is empty; only a held row may wait for its data'
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
    v_plain := v_json <> '{}' and v_json !~ E'[\\\\\\u007f-\\u009f\\u2028\\u2029]';
    if v_plain then
        v_parts := case when strpos(v_json, '": {"value": "') > 0
            then string_to_array(replace(substr(v_json, 3, length(v_json) - 5), '": {"value": "', '"}, "'), '"}, "')
            else string_to_array(replace(substr(v_json, 3, length(v_json) - 4), '": "', '", "'), '", "') end;
        v_plain := cardinality(v_parts) % 2 = 0;
        for v_n in 1 .. cardinality(v_parts) by 2 loop
            v_key := v_parts[v_n];
            v_text := v_parts[v_n + 1];
            if (strpos(v_text, '"') = 0 and case rtrim(v_key, '0123456789')
                    when v_key then false
                    when 'thing' then length(v_text) <= 20 and (ascii(v_text) between 33 and 126 or ascii(v_text) > 12288)
                    when 'time' then translate(v_text, '123456789', '000000000') in ('0000年00月00日 00:00', '0000-00-00 00:00')
                        and substr(v_text, 6, 2) between '01' and '12' and substr(v_text, 9, 2) between '01' and '28'
                        and right(v_text, 5) < '24' and right(v_text, 2) < '60'
                    when 'date' then translate(v_text, '123456789', '000000000') in ('0000年00月00日', '0000-00-00')
                        and substr(v_text, 6, 2) between '01' and '12' and substr(v_text, 9, 2) between '01' and '28'
                    when 'character_string' then length(v_text) <= 32 and ascii(v_text) > 32 and v_text !~ '[^ -~]'
                    when 'phrase' then length(v_text) <= 5 and v_text <> '' and v_text !~ E'[^\\u4e00-\\u9fff]'
                    when 'amount' then length(v_text) <= 10 and v_text ~ '^[¥￥$€£]?[0-9]+([.][0-9]+)?元?$'
                    when 'number' then length(v_text) <= 32 and v_text ~ '^[0-9]+([.][0-9]+)?$'
                    when 'name' then length(v_text) <= 10 and (ascii(v_text) between 33 and 126 or ascii(v_text) > 12288) and v_text !~ '[0-9０-９]'
                    when 'phone_number' then length(v_text) <= 17 and v_text <> '' and v_text not like ' %' and v_text !~ '[^-0-9+()*#~ ]'
                    when 'car_number' then length(v_text) <= 8 and v_text ~ E'^[A-Za-z0-9\\u4e00-\\u9fff][A-Za-z0-9]*[A-Za-z0-9\\u4e00-\\u9fff]?$'
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
        v_fault := wxnotify_data_fault(new.data);
        if v_fault is not null then
            raise exception using errcode = 'check_violation', table = tg_table_name, column = 'data',
                message = 'pending_notifications.data: ' || v_fault,
                hint = 'Nothing was stored. WeChat refuses such a message with 47003 and truncates nothing: correct the field and insert the row again.';
        end if;
    end if;

    if tg_op = 'INSERT' then
        -- A row that waits for something brought its time along (a restore); a login code's is set by wxnotify_arrive_kind.
        new.due := least(case when new.waiting_for is not null and new.due > '-infinity' then new.due
                              when new.held or new.openid is null then 'infinity'
                              else greatest(new.send_at, clock_timestamp()) end, new.expire_at);
    end if;
    return new;
end $$;

comment on function wxnotify_arrive is 'Trigger: checks a row, names the column, the field and the rule it breaks, fits it to its template, and sets due.';

grant execute on function wxnotify_arrive to wxnotify_worker;
