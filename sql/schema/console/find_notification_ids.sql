-- The ids of the rows that a key of any kind means. Each kind has an index of its own; a rid tells its time, and so the partition. A msgid of
-- a message whose event came is found by the event; of others those of the last three days are looked through.
create or replace function find_notification_ids(p_key text, p_rows integer default 200) returns table (id bigint, found_by text)
language plpgsql stable security definer set search_path from current set jit = off as $$
#variable_conflict use_column
declare
    v_number bigint;
    v_called timestamptz;  -- the time a rid begins with
begin
    if p_key ~ '^[0-9]{1,18}$' or (p_key ~ '^[0-9]{19}$' and p_key <= '9223372036854775807') then
        v_number := p_key::bigint;
    end if;
    if p_key ~ '^[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}$' then
        v_called := to_timestamp(('x' || lpad(left(p_key, 8), 16, '0'))::bit(64)::bigint);
    end if;
    return query
    select k.id, k.found_by from (
        (select p.id, 'id' as found_by from pending_notifications p where p.id = v_number limit 1)
        union (select h.id, 'id' from notification_history h where h.id = v_number limit 1)
        union (select p.id, 'business_ref' from pending_notifications p where p.business_ref = p_key limit p_rows)
        union (select h.id, 'business_ref' from notification_history h where h.business_ref = p_key limit p_rows)
        union (select o.id, 'dedup_key' from wechat_apps a join notification_keys o on o.appid = a.appid and o.dedup_key = p_key limit p_rows)
        union (select h.id, 'msgid' from wechat_apps a
               join wechat_events e on e.appid = a.appid and e.event = 'subscribe_msg_sent_event' and e.msgid = v_number and e.dedup_hash is null
               join notification_history h on h.appid = e.appid and h.openid = e.openid and h.template_id = e.template_id and h.msgid = v_number
               where v_number is not null limit p_rows)
        union (select h.id, 'msgid' from notification_history h
               where v_number > 1000000000000000 and h.msgid = v_number and h.finished_at > now() - interval '3 days' limit p_rows)
        union (select t.notification_id, 'rid' from notification_attempts t
               where t.rid = p_key and t.finished_at between v_called - interval '1 hour' and v_called + interval '2 days' limit p_rows)
    ) k limit p_rows;
end $$;

comment on function find_notification_ids is 'The notifications that a key means, and what kind of key it was: id, business_ref, dedup_key, msgid or rid. An unknown key finds nothing.';

grant execute on function find_notification_ids to wxnotify_operator;
grant execute on function find_notification_ids to wxnotify_viewer;
