-- Checks a schedule, and counts its version: rows of older ones are rewritten (another text) or cancelled (another receiver, template or
-- time). SECURITY DEFINER: producers may read neither templates nor whom others are confined to.
create or replace function wxnotify_arrive_schedule() returns trigger
language plpgsql security definer set search_path from current as $$
declare
    v_fault text;
begin
    new.appid := coalesce(new.appid, wxnotify_default_appid());
    new.kind := coalesce(new.kind, 'one_time');
    new.credit := coalesce(new.credit, case when new.kind = 'one_time' then 'held' else 'none' end);
    new.audience := coalesce(new.audience, 'one');
    new.lane := coalesce(new.lane, case new.audience when 'one' then 1 else 2 end);
    new.time_zone := coalesce(new.time_zone, 'Asia/Shanghai');
    new.calendar := coalesce(new.calendar, 'CN');
    new.miniprogram_state := coalesce(new.miniprogram_state, 'formal');
    new.lang := coalesce(new.lang, 'zh_CN');
    new.on_doubt := coalesce(new.on_doubt, 'retry');
    new.data := coalesce(new.data, '{}');
    new.valid_for := coalesce(new.valid_for, '1 hour');
    new.spread := coalesce(new.spread, '0');
    new.missed := coalesce(new.missed, 'latest');
    new.catch_up := coalesce(new.catch_up, '1 hour');
    new.catch_up_max := coalesce(new.catch_up_max, 24);
    new.quiet := coalesce(new.quiet, 'hold');
    v_fault := wxnotify_schedule_fault(new);
    if v_fault is null and tg_op = 'UPDATE' then
        v_fault := case when new.id <> old.id or new.appid <> old.appid then 'appid: cannot change; DELETE the schedule and INSERT another'
                        when new.producer <> old.producer then 'producer: cannot change' end;
    end if;
    if v_fault is not null then
        raise exception using errcode = 'check_violation', table = tg_table_name, column = split_part(v_fault, ':', 1),
            message = 'reminder_schedules.' || v_fault, hint = 'Nothing was stored. Correct the column and try again.';
    end if;
    new.spec := case when new.cron is not null then regexp_replace(btrim(new.cron), ' +', ' ', 'g')
        else format('every %s days from %s', extract(day from new.every), to_char(new.starts_at, 'YYYY-MM-DD"T"HH24:MI:SS.US')) end
        || ' in ' || new.time_zone;
    if tg_op = 'UPDATE' then
        if (new.spec, new.only_on, new.calendar, new.starts_at, new.ends_at, new.fires_max)
           is distinct from (old.spec, old.only_on, old.calendar, old.starts_at, old.ends_at, old.fires_max) then
            new.version := old.version + 1;
            new.recast_version := new.version;
            new.retimed_version := new.version;
        elsif (new.audience, new.openid, new.credit, new.kind, new.template_id, new.valid_for, new.spread, new.lane, new.dedup_key, new.on_doubt)
           is distinct from (old.audience, old.openid, old.credit, old.kind, old.template_id, old.valid_for, old.spread, old.lane, old.dedup_key, old.on_doubt) then
            new.version := old.version + 1;
            new.recast_version := new.version;
        elsif (new.data, new.page, new.miniprogram_state, new.lang, new.business_ref, new.quiet, new.still_true)
           is distinct from (old.data, old.page, old.miniprogram_state, old.lang, old.business_ref, old.quiet, old.still_true) then
            new.version := old.version + 1;
        end if;
    end if;
    return new;
end $$;

comment on function wxnotify_arrive_schedule is 'Trigger: checks a reminder schedule, names the column and the rule it breaks, and counts its version.';

grant execute on function wxnotify_arrive_schedule to wxnotify_worker;
