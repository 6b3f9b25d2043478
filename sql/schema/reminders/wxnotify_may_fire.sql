-- Whether a schedule may go to its audience: not to more than its mini-program's approve_above users before an operator approved it as it is.
create or replace function wxnotify_may_fire(s reminder_schedules) returns boolean
language plpgsql stable set search_path from current set enable_seqscan = off as $$
declare
    v_above int;
begin
    if s.audience = 'one' or s.approved_version = s.version then
        return true;
    end if;
    select a.approve_above into v_above from wechat_apps a where a.appid = s.appid;
    return v_above is null or (select count(*) from wxnotify_next_receivers(s, '', v_above + 1)) <= v_above;
end $$;

comment on function wxnotify_may_fire is 'Whether a schedule may go to so many users without an operator''s approval, or has it.';

grant execute on function wxnotify_may_fire to wxnotify_worker;
