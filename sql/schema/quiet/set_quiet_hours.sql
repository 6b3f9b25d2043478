create or replace function set_quiet_hours(p_appid text, p_begins time, p_ends time, p_template_id text default null, p_time_zone text default 'Asia/Shanghai',
    p_note text default null, p_rows int default 1000) returns integer
language plpgsql volatile security definer set search_path from current as $$
declare
    v_rows int;
begin
    perform wxnotify_need_read_committed();
    perform wxnotify_need_app(p_appid);
    if p_begins is null or p_ends is null or p_begins = p_ends or p_ends = '24:00' then
        raise exception 'quiet hours from % to %: give two different times from 00:00 to 23:59', coalesce(left(p_begins::text, 5), 'null'), coalesce(left(p_ends::text, 5), 'null')
            using errcode = '22023', hint = '22:00 to 08:00 is across midnight.';
    end if;
    if length(p_template_id) not between 1 and 128 then
        raise exception 'template_id: 1 to 128 characters are required, or null for all templates' using errcode = '22023';
    end if;
    begin
        if p_time_zone is null or p_time_zone !~ '^[A-Za-z_]+(/[A-Za-z0-9_+-]+)+$' and p_time_zone <> 'UTC' or clock_timestamp() at time zone p_time_zone is null then
            raise invalid_parameter_value;
        end if;
    exception when invalid_parameter_value then
        raise exception 'time zone %: must be an IANA name such as Asia/Shanghai, or UTC', coalesce(p_time_zone, 'null') using errcode = '22023';
    end;
    insert into notification_quiet_hours (appid, template_id, begins, ends, time_zone, set_by)
    values (p_appid, coalesce(p_template_id, ''), p_begins, p_ends, p_time_zone, wxnotify_actor())
    on conflict (appid, template_id) do update
    set begins = excluded.begins, ends = excluded.ends, time_zone = excluded.time_zone, set_by = excluded.set_by, set_at = clock_timestamp();
    v_rows := wxnotify_heed_quiet_hours(p_appid, p_rows);
    perform wxnotify_record_action('set_quiet_hours', jsonb_strip_nulls(jsonb_build_object('appid', p_appid, 'template_id', p_template_id,
        'begins', left(p_begins::text, 5), 'ends', left(p_ends::text, 5), 'time_zone', p_time_zone)), v_rows, p_note);
    return v_rows;
end $$;

comment on function set_quiet_hours is 'Sets when reminders, retries, redrives and the end of a pause wait, for a mini-program or one of its templates. Rows that wait and need not by the new hours become due, at most 1,000 a call. Returns how many.';

grant execute on function set_quiet_hours to wxnotify_operator;
