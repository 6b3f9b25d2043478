-- What is wrong with a schedule, as "column: rule", without any value; null: nothing.
create or replace function wxnotify_schedule_fault(s reminder_schedules) returns text
language plpgsql stable set search_path from current as $$
declare
    v_fault  text;
    v_text   text;
    v_word   text;
    v_sample jsonb;
    -- The longest names of a day and a month.
    v_long   constant timestamp := '2026-09-30 22:58:58';
begin
    v_fault := case
        when length(s.appid) not between 1 and 64 or s.appid ~ '[^A-Za-z0-9_-]' or s.appid is null then 'appid: 1 to 64 letters, digits, _ or - are required'
        when not wxnotify_may_name(s.appid) then 'appid: this login is confined to other mini-programs'
        when s.name is null or length(s.name) not between 1 and 100 or s.name ~ E'[\\u0001-\\u001f\\u007f-\\u009f]' then 'name: 1 to 100 characters without line breaks are required'
        when num_nonnulls(s.cron, s.every) <> 1 then 'cron: give either cron or every'
        when s.cron is not null and wxnotify_cron_fault(s.cron) is not null then 'cron: ' || wxnotify_cron_fault(s.cron)
        when s.every is not null and (extract(day from s.every) not between 1 and 3660 or s.every <> make_interval(days => extract(day from s.every)::int) or extract(month from s.every) <> 0 or extract(year from s.every) <> 0)
            then 'every: write whole days or weeks, 1 day to 3660 days, as in 3 days or 2 weeks'
        when s.every is not null and s.starts_at is null then 'starts_at: every counts from it; give it, such as 2026-12-01 09:00'
        when s.time_zone !~ '^[A-Za-z_]+(/[A-Za-z0-9_+-]+)+$' and s.time_zone <> 'UTC' then 'time_zone: must be an IANA name such as Asia/Shanghai, or UTC'
        when s.only_on not in ('workday', 'holiday') then 'only_on: must be workday or holiday, or null'
        when length(s.calendar) not between 1 and 40 then 'calendar: 1 to 40 characters are required'
        when not isfinite(s.starts_at) or s.starts_at not between '2000-01-01' and '2199-12-31' then 'starts_at: must be after 2000 and before 2200'
        when not isfinite(s.ends_at) or s.ends_at not between '2000-01-01' and '2199-12-31' then 'ends_at: must be after 2000 and before 2200'
        when s.ends_at <= s.starts_at then 'ends_at: must be later than starts_at'
        when s.fires_max < 1 then 'fires_max: must be 1 or more, or null'
        when s.audience not in ('one', 'list', 'holders') then 'audience: must be one, list or holders'
        when s.audience = 'one' and s.openid is null then 'openid: an audience of one needs its openid; for many write audience list or holders'
        when s.audience <> 'one' and s.openid is not null then 'openid: belongs to an audience of one; leave it out'
        when length(s.openid) not between 1 and 128 then 'openid: 1 to 128 characters are required'
        when s.audience <> 'one' and array_length(string_to_array(regexp_replace(btrim(s.cron), ' +', ' ', 'g'), ' '), 1) = 6
            then 'cron: seconds are for an audience of one; write five fields'
        when s.audience = 'holders' and not has_function_privilege(session_user, 'reminder_holders(text, text)', 'execute')
            then 'audience: holders spends credits that others recorded, and needs the right: GRANT EXECUTE ON FUNCTION reminder_holders TO this login'
        when s.kind not in ('one_time', 'long_term') then 'kind: must be one_time or long_term'
        when s.credit not in ('held', 'none') then 'credit: must be held or none'
        when s.credit = 'held' and s.kind <> 'one_time' then 'credit: a long_term message spends none; write none, or leave it out'
        when s.audience = 'holders' and s.credit <> 'held' then 'credit: an audience of holders spends held credits; write held, or leave it out'
        when length(s.template_id) not between 1 and 128 or s.template_id is null then 'template_id: 1 to 128 characters are required'
        when s.missed not in ('skip', 'latest', 'all') then 'missed: must be skip, latest or all'
        when s.catch_up not between '0' and '1 day' then 'catch_up: must be 0 to 1 day'
        when s.catch_up_max not between 1 and 1000 then 'catch_up_max: must be 1 to 1000'
        when s.valid_for not between '1 second' and '31 days' then 'valid_for: must be 1 second to 31 days'
        when s.spread not between '0' and '1 day' then 'spread: must be 0 to 1 day'
        when s.lane not between 0 and 2 then 'lane: must be 0 (urgent), 1 (normal) or 2 (bulk)'
        when s.on_doubt not in ('retry', 'hold') then 'on_doubt: must be retry or hold'
        when s.miniprogram_state not in ('formal', 'trial', 'developer') then 'miniprogram_state: must be formal, trial or developer'
        when s.lang not in ('zh_CN', 'en_US', 'zh_HK', 'zh_TW') then 'lang: must be zh_CN, en_US, zh_HK or zh_TW'
        when left(s.page, 1) = '/' then 'page: must not begin with a slash (WeChat answers 41030)'
        when length(s.page) not between 1 and 1024 or s.page like '%://%' then 'page: must be a path in the mini-program of 1 to 1024 characters, or null'
        when length(s.business_ref) not between 1 and 200 then 'business_ref: must be 1 to 200 characters, or null'
        when length(s.dedup_key) not between 1 and 200 then 'dedup_key: must be 1 to 200 characters, or null'
        when s.dedup_key is not null and s.dedup_key !~ '\{\{fire:' then 'dedup_key: the same key at each fire would send once for ever; put the time into it, such as {{fire:YYYY-MM-DD}}'
        when s.dedup_key is not null and s.audience <> 'one' and s.dedup_key !~ '\{\{[a-zA-Z_]\w*\}\}' then 'dedup_key: the same key for every receiver would send to one alone; put a text of the audience into it, such as {{ref}}'
        when pg_column_size(s.data) > 16384 or jsonb_typeof(s.data) <> 'object' or octet_length(s.data::text) > 4096 then 'data: must be a JSON object such as {"thing2": "..."} of at most 4096 bytes'
        when s.data = '{}' then 'data: is empty'
        when s.quiet not in ('hold', 'drop', 'ignore') then 'quiet: must be hold, drop or ignore'
        when s.still_true is not null and not exists (select 1 from reminder_checks c where c.name = s.still_true)
            then 'still_true: there is no such check; an operator adds it: select add_check(name, function)'
        when s.still_true is not null and s.business_ref is null then 'business_ref: the check of still_true is asked by it; give it'
        end;
    if v_fault is not null then
        return v_fault;
    end if;
    begin
        perform clock_timestamp() at time zone s.time_zone;
    exception when invalid_parameter_value then
        return 'time_zone: is no zone that the database knows; write an IANA name such as Asia/Shanghai';
    end;
    -- Placeholders.
    foreach v_text in array array[s.data::text, s.dedup_key, s.page, s.business_ref] loop
        continue when v_text is null or strpos(v_text, '{{') = 0;
        if v_text = s.business_ref then
            return 'business_ref: takes no placeholder; an audience''s row may have a ref';
        end if;
        for v_word in select m[1] from regexp_matches(v_text, '\{\{([^{}]*)(?:\}\}|$|\{|\})', 'g') m loop
            if v_word !~ '^fire:.{1,60}$' and v_word !~ '^[A-Za-z_][A-Za-z0-9_]{0,39}$' then
                return case when v_text = s.data::text then 'data' when v_text = s.dedup_key then 'dedup_key' else 'page' end
                    || ': a placeholder must be {{fire:FORMAT}} or {{name}}';
            elsif v_word !~ '^fire:' and s.audience <> 'list' then
                return case when v_text = s.data::text then 'data' when v_text = s.dedup_key then 'dedup_key' else 'page' end
                    || ': {{name}} takes a text of reminder_audience, which only an audience of list has';
            end if;
        end loop;
        if (length(v_text) - length(replace(v_text, '{{', ''))) <> (length(v_text) - length(replace(v_text, '}}', ''))) then
            return case when v_text = s.data::text then 'data' when v_text = s.dedup_key then 'dedup_key' else 'page' end || ': a placeholder is not closed: {{fire:FORMAT}}';
        end if;
    end loop;
    -- A message as it will be, but for fields that take the audience's texts.
    v_sample := (select coalesce(jsonb_object_agg(e.key, e.value), '{}') from jsonb_each(s.data) e where e.value::text !~ '\{\{[a-zA-Z_]\w*\}\}');
    v_fault := case when v_sample <> '{}' then wxnotify_data_fault(wxnotify_render_data(v_sample, v_long, '{}')) end;
    if v_fault is not null then
        return 'data: ' || v_fault;
    end if;
    if v_sample = s.data then
        begin
            perform wxnotify_fit_data(s.appid, s.template_id, s.kind, wxnotify_render_data(v_sample, v_long, '{}'));
        exception when check_violation then
            return regexp_replace(sqlerrm, '^pending_notifications\.', '');
        end;
    end if;
    return null;
end $$;

comment on function wxnotify_schedule_fault is 'What is wrong with a reminder schedule, as "column: rule"; null: nothing.';

grant execute on function wxnotify_schedule_fault to wxnotify_worker;
