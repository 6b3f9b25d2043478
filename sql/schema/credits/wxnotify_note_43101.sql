-- Part of settle: 43101 on a long_term message, which spends no credit, says that the user turned the template off. Dated by
-- the second in which the send began, so that an accept of that second or later is not undone by it.
create or replace function wxnotify_note_43101(p_appid text, p_started_at timestamptz, p_ids bigint[]) returns void
language plpgsql volatile set search_path from current set enable_seqscan = off as $$
declare
    v_pair record;
begin
    for v_pair in
        select distinct p.openid, p.template_id from pending_notifications p where p.id = any (p_ids) order by 1, 2
    loop
        insert into wechat_refusals as r (appid, openid, template_id, refused_at, said_by)
        values (p_appid, v_pair.openid, v_pair.template_id, date_trunc('second', coalesce(p_started_at, clock_timestamp())), '43101')
        on conflict (appid, openid, template_id) do update set refused_at = excluded.refused_at, said_by = excluded.said_by
        where r.refused_at < excluded.refused_at;
        perform wxnotify_weigh_pair(p_appid, v_pair.openid, v_pair.template_id);
    end loop;
end $$;

comment on function wxnotify_note_43101 is 'Part of settle: parks what a 43101 on a long_term message says the user turned off.';

grant execute on function wxnotify_note_43101 to wxnotify_worker;
