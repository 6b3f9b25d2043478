-- Says whether a user refuses a template now, by all that is known: the later of accept and reject, by WeChat's CreateTime
-- and not by arrival; of one second the reject. A 43101 on a long_term message counts as a reject, a row inserted later as an
-- accept. Notes the answer and parks or wakes the rows. Callers that do several pairs go in the order of their names.
create or replace function wxnotify_weigh_pair(p_appid text, p_openid text, p_template_id text) returns boolean
language plpgsql volatile set search_path from current set enable_seqscan = off as $$
declare
    v_said     record;
    v_noted    record;
    v_since    timestamptz;
    v_said_by  text;
begin
    select e.answer, e.event, e.occurred_at into v_said from wechat_events e
    where e.appid = p_appid and e.openid = p_openid and e.template_id = p_template_id and e.answer is not null
    order by e.occurred_at desc, e.answer desc limit 1;
    select r.refused_at, r.said_by into v_noted from wechat_refusals r
    where r.appid = p_appid and r.openid = p_openid and r.template_id = p_template_id for update;
    if v_said.answer = 'reject' then
        v_since := v_said.occurred_at;
        v_said_by := case v_said.event when 'subscribe_msg_popup_event' then 'popup' else 'change' end;
    end if;
    if v_noted.said_by = '43101' and v_noted.refused_at > coalesce(v_said.occurred_at, '-infinity') then
        v_since := v_noted.refused_at;
        v_said_by := '43101';
    end if;
    if v_since is not null and wxnotify_accepted_by_row(p_appid, p_openid, p_template_id, v_since) then
        v_since := null;
    end if;
    if v_since is null then
        delete from wechat_refusals r where r.appid = p_appid and r.openid = p_openid and r.template_id = p_template_id;
        perform wxnotify_wake_refused(p_appid, p_openid, p_template_id);
    else
        insert into wechat_refusals as r (appid, openid, template_id, refused_at, said_by)
        values (p_appid, p_openid, p_template_id, v_since, v_said_by)
        on conflict (appid, openid, template_id) do update set refused_at = excluded.refused_at, said_by = excluded.said_by
        where (r.refused_at, r.said_by) is distinct from (excluded.refused_at, excluded.said_by);
        perform wxnotify_park_refused(p_appid, p_openid, p_template_id);
    end if;
    return v_since is not null;
end $$;

comment on function wxnotify_weigh_pair is 'Notes whether a user refuses a template now, and parks or wakes the rows.';

grant execute on function wxnotify_weigh_pair to wxnotify_worker;
