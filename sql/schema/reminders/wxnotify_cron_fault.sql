-- A check of form: what it refuses the calendar refuses too, or wxnotify does; what passes may still be refused by the calendar, which says
-- why. Bounded: the text has at most 100 characters.
create or replace function wxnotify_cron_fault(p_cron text) returns text
language plpgsql immutable set search_path from current as $$
declare
    v_fields text[];
    v_field  text;
    v_part   text;
    v_bounds text[];
    v_at     int;   -- 1: second … 6: weekday
    v_names  constant text[] := array['second', 'minute', 'hour', 'day', 'month', 'weekday'];
    v_low    constant int[] := array[0, 0, 0, 1, 1, 0];
    v_high   constant int[] := array[59, 59, 23, 31, 12, 7];
begin
    if length(p_cron) > 100 then
        return 'at most 100 characters are allowed';
    end if;
    if p_cron ~ '[^-0-9A-Za-z*/,# ]' then
        return 'only digits, letters, blanks and * / , - # may be in it; five fields: minute hour day month weekday';
    end if;
    v_fields := string_to_array(regexp_replace(btrim(p_cron), ' +', ' ', 'g'), ' ');
    if cardinality(v_fields) not in (5, 6) or v_fields[1] = '' then
        return format('has %s fields; write five: minute hour day month weekday, such as 40 7 * * * (or six, with seconds first)',
            case when btrim(p_cron) = '' then 0 else cardinality(v_fields) end);
    end if;
    for v_n in 1 .. cardinality(v_fields) loop
        v_at := v_n + 6 - cardinality(v_fields);
        v_field := v_fields[v_n];
        foreach v_part in array string_to_array(v_field, ',') loop
            if v_part = '' then
                return format('%s: a comma needs a value on either side', v_names[v_at]);
            end if;
            continue when v_at >= 4 and v_part ~ '[A-Za-z#]';
            v_bounds := regexp_match(v_part, '^(?:\*|([0-9]+)(?:-([0-9]+))?)(?:/([0-9]+))?$');
            if v_bounds is null then
                return format('%s: a value must be like 5, 1-5, */10 or 1,15', v_names[v_at]);
            end if;
            if length(coalesce(v_bounds[1], '')) > 4 or length(coalesce(v_bounds[2], '')) > 4 or length(coalesce(v_bounds[3], '')) > 4
               or v_bounds[1]::int not between v_low[v_at] and v_high[v_at] or v_bounds[2]::int not between v_low[v_at] and v_high[v_at]
               or v_bounds[3]::int not between 1 and v_high[v_at] then
                return format('%s: values are %s to %s', v_names[v_at], v_low[v_at], v_high[v_at]);
            end if;
            if v_bounds[2]::int < v_bounds[1]::int then
                return format('%s: a range goes from the smaller to the larger value', v_names[v_at]);
            end if;
        end loop;
    end loop;
    return null;
end $$;

comment on function wxnotify_cron_fault is 'What is wrong with the form of a cron text; null: nothing.';

grant execute on function wxnotify_cron_fault to wxnotify_worker;
