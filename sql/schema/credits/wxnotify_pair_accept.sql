-- Pairs one accept with its row, or makes a held row of it when its window is over and p_hold says so. Returns whether it is
-- worth another look. THE CALLER HOLDS THE LEDGER'S LOCK.
create or replace function wxnotify_pair_accept(p_event wechat_events, p_hold boolean, p_window_secs float8) returns boolean
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off as $$
declare
    v_row     bigint;
    v_held    bigint;
    v_is_held boolean;
begin
    if p_event.held_id is not null then
        -- Armed, cancelled or spent: the credit is used, and a row that comes now is another one's or one too many.
        select p.id, p.held into v_held, v_is_held from pending_notifications p where p.id = p_event.held_id;
        if v_is_held is not true then
            return false;
        end if;
    end if;
    v_row := wxnotify_row_of_tap(p_event.appid, p_event.openid, p_event.template_id, p_event.occurred_at, p_window_secs);
    if v_row is not null then
        if v_held is not null then
            -- The business row came after all: the held one is withdrawn, so that one tap stays one credit.
            select p.held into v_is_held from pending_notifications p where p.id = v_held for update skip locked;
            if v_is_held is not true then
                return true;
            end if;
            if wxnotify_finish_carefully(p_event.appid, array[v_held], array['cancelled'], 'policy', null) = 0 then
                return true;
            end if;
        end if;
        update wechat_events e set notification_id = v_row where e.id = p_event.id;
        return false;
    end if;
    if p_hold and v_held is null and p_event.occurred_at + make_interval(secs => p_window_secs) < clock_timestamp()
       -- An accept of a long_term template is no credit.
       and not exists (select 1 from pending_notifications p
                       where p.appid = p_event.appid and p.openid = p_event.openid and p.template_id = p_event.template_id and not wxnotify_spends_credit(p.kind))
       and not exists (select 1 from notification_history h
                       where h.appid = p_event.appid and h.openid = p_event.openid and h.template_id = p_event.template_id and not wxnotify_spends_credit(h.kind)) then
        begin
            insert into pending_notifications (appid, kind, openid, template_id, data, held, created_at)
            values (p_event.appid, 'one_time', p_event.openid, p_event.template_id, '{}', true, p_event.occurred_at)
            returning id into v_held;
            update wechat_events e set notification_id = v_held, held_id = v_held where e.id = p_event.id;
        exception when check_violation then
            return false;  -- what no row may hold (a time beyond 2200) stays an accept without one
        end;
    end if;
    return true;
end $$;

comment on function wxnotify_pair_accept is 'Pairs an accept with its row, or makes a held row of it.';

grant execute on function wxnotify_pair_accept to wxnotify_worker;
