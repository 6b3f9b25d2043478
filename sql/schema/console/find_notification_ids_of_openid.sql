create or replace function find_notification_ids_of_openid(p_openid text, p_rows integer default 200) returns table (id bigint, found_by text)
language sql stable security definer set search_path from current set jit = off as $$
    select k.id, 'openid' from (
        (select p.id from wechat_apps a join pending_notifications p on p.appid = a.appid and p.openid = p_openid limit p_rows)
        union (select h.id from wechat_apps a join notification_history h on h.appid = a.appid and h.openid = p_openid order by h.finished_at desc limit p_rows)) k
$$;

comment on function find_notification_ids_of_openid is 'The notifications of one user, the latest ended ones first.';

grant execute on function find_notification_ids_of_openid to wxnotify_operator;
