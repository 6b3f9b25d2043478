-- The first field of a message that WeChat would refuse, and the rule it breaks, by the types of WeChat's template parameters; null:
-- none. What wxnotify_arrive cannot accept at a glance comes here. Never the value: a database log keeps error messages.
create or replace function wxnotify_data_fault(p_data jsonb) returns text
language plpgsql stable set search_path from current as $$
declare
    c_month constant text := '(?:0?[1-9]|1[0-2])';
    c_day   constant text := '(?:0?[1-9]|[12][0-9]|3[01])';
    c_ri    constant text := '(?:[0-9]{4}年)?' || c_month || '月' || c_day || '日';
    c_date  constant text := '(?:' || c_ri || '|[0-9]{4}年' || c_month || '月|[0-9]{4}-' || c_month || '(?:-' || c_day || ')?|[0-9]{4}/' || c_month
                          || '(?:/' || c_day || ')?|[0-9]{4}[.]' || c_month || '(?:[.]' || c_day || ')?|' || c_month || '[-/.]' || c_day || ')';
    c_clock constant text := '(?:[01]?[0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9])?';
    c_time  constant text := '(?:' || c_date || ' |' || c_ri || ')?' || c_clock;
    -- 31 April, 30 February, 29 February in a year that has none.
    c_never constant text := '(?:^|[^0-9])(?:(?:0?[469]|11)[-月/.]31|0?2[-月/.]3[01]'
                          || '|(?:[0-9]{2}(?:[02468][1235679]|[13579][01345789])|(?:[02468][1235679]|[13579][01345789])00)[-年/.]0?2[-月/.]29)';
    c_han   constant text := E'\\u3007\\u3400-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff\\U00020000-\\U000323af';
    c_sign  constant text := E'!-/:-@[-`{-~\\u00a1-\\u00a9\\u00ab-\\u00b1\\u00b4\\u00b6-\\u00b8\\u00bb\\u00bf\\u00d7\\u00f7\\u2010-\\u2027\\u2030-\\u205e\\u20a0-\\u20bf'
                          || E'\\u2190-\\u23ff\\u2500-\\u2775\\u2794-\\u2bff\\ufe0f\\U0001f300-\\U0001faff';
    v_key   text;
    v_value jsonb;
    v_text  text;
    v_chars int;
    v_fault text;
begin
    for v_key, v_value in select key, value from jsonb_each(p_data) loop
        v_text := case jsonb_typeof(v_value)
            when 'object' then case when jsonb_typeof(v_value -> 'value') in ('string', 'number') then v_value ->> 'value' end
            when 'string' then v_value #>> '{}'
            when 'number' then v_value #>> '{}'
        end;
        v_chars := length(v_text);
        if v_text is null then
            v_fault := 'needs text: {"value": "..."} or just "..."';
        elsif btrim(v_text, E' \t\n\u000b\f\r\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000') = '' then
            v_fault := case when v_text <> '' or rtrim(v_key, '0123456789') <> 'const' then 'is empty; use a filler such as -' end;
        else
            -- The type is the key without its number.
            v_fault := case rtrim(v_key, '0123456789')
                when v_key then 'is no field name: a type and a number such as thing2'
                when 'thing' then case when v_chars > 20 then 'at most 20 characters' end
                when 'time' then case when v_text !~ ('^' || c_time || '(?: ?~ ?' || c_time || ')?$')
                    then 'a 24-hour clock time such as 15:01 or 2026-11-22 15:01 (or with the Chinese words for year, month and day), ranges with ~ (China Standard Time, no zone)'
                    when v_chars > 8 and v_text ~ c_never then 'a day that does not exist' end
                when 'date' then case when v_text !~ ('^(?:' || c_date || '(?: ' || c_clock || ')?|' || c_ri || c_clock || ')(?: ?~ ?(?:' || c_date || '|' || c_time || '))?$')
                    then 'a date such as 2026-11-22 (or with the Chinese words for year, month and day), a clock time may follow, ranges with ~'
                    when v_text ~ c_never then 'a day that does not exist' end
                when 'phrase' then case when v_chars > 5 or v_text ~ ('[^' || c_han || ']') then 'at most 5 Chinese characters and nothing else' end
                when 'number' then case when v_text !~ '^[0-9]+([.][0-9]+)?$' or v_chars - (strpos(v_text, '.') > 0)::int > 32 then 'at most 32 digits, decimals allowed, nothing else' end
                when 'amount' then case when v_text !~ '^[¥￥$€£₩฿₽]?[0-9]{1,10}([.][0-9]+)?元?$' then 'a currency sign, at most 10 digits with decimals, the Chinese word for yuan may follow' end
                when 'character_string' then case when v_chars > 32 then 'at most 32 characters'
                    when v_text ~ ('[^ A-Za-z0-9' || c_sign || ']') then 'digits, letters and symbols only, no Chinese' end
                when 'name' then case when v_text ~ '[0-9０-９]' then 'no digits'
                    when v_chars > case when v_text ~ E'[^\\u0020-\\u024f\\u1e00-\\u1eff\\u2010-\\u2027]' then 10 else 20 end then 'at most 10 characters with Chinese, or 20 Latin letters and symbols' end
                when 'phone_number' then case when v_chars > 17 or v_text ~ ('[^ 0-9' || c_sign || ']') then 'at most 17 digits and symbols' end
                when 'car_number' then case when v_text !~ ('^[A-Za-z0-9' || c_han || '][A-Za-z0-9]{0,6}[A-Za-z0-9' || c_han || ']?$')
                    then 'at most 8 letters and digits; the first and the last may be Chinese' end
                when 'letter' then case when v_chars > 32 or v_text ~ '[^A-Za-z]' then 'at most 32 letters and nothing else' end
                when 'symbol' then case when v_chars > 5 or v_text ~ ('[^ ' || c_sign || E'\\u3001-\\u3003\\u3008-\\u3020\\u3030\\uff01-\\uff0f\\uff1a-\\uff20\\uff3b-\\uff40\\uff5b-\\uff65\\uffe0-\\uffe6]')
                    then 'at most 5 symbols and nothing else' end
                when 'enum' then null
                when 'enum_string' then null
                when 'short_thing' then case when v_chars > 10 then 'at most 10 characters' end
                else case when v_key !~ '^[a-z_]+[0-9]+$' then 'is no field name: a type and a number such as thing2'
                    when v_chars > 20 then 'at most 20 characters' end
            end;
            if v_fault is null and v_text ~ E'[\\u0001-\\u001f\\u007f-\\u009f\\u2028\\u2029]' then
                v_fault := 'no line breaks or other control characters';
            end if;
        end if;
        if v_fault is not null then
            return format('%s: %s', wxnotify_legible(v_key), v_fault) || coalesce(' (' || v_chars || ' characters given)', '');
        end if;
    end loop;
    return null;
end $$;

comment on function wxnotify_data_fault is 'The first field of a message that breaks a rule of WeChat''s field types, and the rule; null: none.';

grant execute on function wxnotify_data_fault to wxnotify_worker;
