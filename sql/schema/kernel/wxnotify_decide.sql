-- A late reply or an operator ends a doubt: status sent, unresolved or dead, or not_sent, which makes the row due again.
-- False: the row is not in doubt, is in flight, or somebody holds it.
create or replace function wxnotify_decide(
    p_appid text, p_id bigint, p_status text, p_settled_by text, p_msgid bigint default null, p_errcode bigint default null,
    p_errmsg text default null, p_credit text default null) returns boolean
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off as $$
declare
    v_row record;
begin
    perform wxnotify_need_read_committed();
    select p.appid, p.in_doubt_since, p.last_lease into v_row from pending_notifications p where p.id = p_id for update skip locked;
    if not found or v_row.appid <> p_appid or v_row.in_doubt_since is null
       or exists (select 1 from notification_leases l
                  where l.appid = p_appid and p_id = any (l.ids) and l.lease_id is distinct from v_row.last_lease) then
        return false;
    end if;
    if p_status = 'not_sent' then
        update pending_notifications p
        set in_doubt_since = null, waiting_for = null, due = wxnotify_next_due(p.held, p.send_at, p.expire_at), last_errcode = p_errcode,
            last_errmsg = left(p_errmsg, 500)
        where p.id = p_id;
        perform wxnotify_ring();
    else
        return wxnotify_finish_carefully(p_appid, array[p_id], array[p_status], p_settled_by, null, array[p_errcode], array[left(p_errmsg, 500)],
            array[p_msgid], array[p_credit]) > 0;
    end if;
    return true;
end $$;

comment on function wxnotify_decide is 'Ends one doubt by a late reply or an operator.';

grant execute on function wxnotify_decide to wxnotify_worker;
