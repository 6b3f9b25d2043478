-- Whether a business row inserted after a moment says that the user accepted again. WeChat dates in whole seconds, so a row
-- of the same second is not later. A row that a redrive or a reminder made is no tap.
create or replace function wxnotify_accepted_by_row(p_appid text, p_openid text, p_template_id text, p_since timestamptz) returns boolean
language sql stable set search_path from current set enable_seqscan = off as $$
    select exists (select 1 from pending_notifications p
                   where p.appid = p_appid and p.openid = p_openid and p.template_id = p_template_id and wxnotify_spends_credit(p.kind) and p.schedule_id is null
                     and p.created_at >= p_since + interval '1 second'
                     and not exists (select 1 from notification_redrives d where d.new_id = p.id))
        or exists (select 1 from notification_history h
                   where h.appid = p_appid and h.openid = p_openid and h.template_id = p_template_id and wxnotify_spends_credit(h.kind) and h.schedule_id is null
                     and h.created_at >= p_since + interval '1 second' and h.finished_at >= p_since
                     and not exists (select 1 from notification_redrives d where d.new_id = h.id))
$$;

comment on function wxnotify_accepted_by_row is 'Whether a row inserted after a refusal witnesses a new accept.';

grant execute on function wxnotify_accepted_by_row to wxnotify_worker;
