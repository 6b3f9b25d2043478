create or replace function redrive_notifications(
    p_ids bigint[], p_send_at timestamptz default null, p_expire_at timestamptz default null, p_note text default null, p_filter jsonb default null)
returns table (id bigint, result text, new_id bigint)
language plpgsql volatile security definer set search_path from current set gin_fuzzy_search_limit = 0 as $$
#variable_conflict use_column
declare
    v_row     notification_history;
    v_changed bigint := 0;
    v_actor   text := wxnotify_actor();
    v_quiet   timestamptz;
begin
    perform wxnotify_need_read_committed();
    if cardinality(p_ids) > 1000 then
        raise exception 'too many rows at once: % ids, at most 1000 a call', cardinality(p_ids)
            using hint = 'Call again with the next 1000 in a transaction of their own, or use the command line.';
    end if;
    for id in select distinct u.id from unnest(p_ids) u (id) order by u.id loop
        result := null;
        new_id := null;
        select * into v_row from notification_history h where h.id = redrive_notifications.id limit 1;
        if not found then
            result := case when exists (select 1 from pending_notifications p where p.id = redrive_notifications.id) then 'not final' else 'not found' end;
        elsif v_row.status not in ('dead', 'unresolved', 'expired', 'cancelled') then
            result := v_row.status;
        elsif v_row.openid like 'erased-%' then
            result := 'its receiver was erased';
        elsif v_row.openid is null then
            result := 'has no receiver: its login code was never exchanged';
        else
            begin
                insert into notification_redrives (redriven_id, new_id, appid, actor)
                values (v_row.id, nextval(pg_get_serial_sequence('pending_notifications', 'id')), v_row.appid, v_actor)
                on conflict (redriven_id) do nothing
                returning notification_redrives.new_id into new_id;
                if new_id is null then
                    result := 'already redriven';
                    select r.new_id into new_id from notification_redrives r where r.redriven_id = v_row.id;
                else
                    v_quiet := case when p_send_at is null and not v_row.held
                        then wxnotify_quiet_end(v_row.appid, v_row.template_id, v_row.lane, null, clock_timestamp()) + random() * interval '2 minutes' end;
                    insert into pending_notifications (id, appid, kind, openid, template_id, page, data, extra, miniprogram_state, lang, send_at,
                        held, expire_at, lane, dedup_key, business_ref, on_doubt, attempts_max, waiting_for, due)
                    overriding system value
                    values (new_id, v_row.appid, v_row.kind, v_row.openid, v_row.template_id, v_row.page, v_row.data, v_row.extra,
                        v_row.miniprogram_state, v_row.lang, coalesce(p_send_at, clock_timestamp()), v_row.held,
                        coalesce(p_expire_at, case when v_row.expire_at > clock_timestamp() then v_row.expire_at end),
                        v_row.lane, v_row.dedup_key, v_row.business_ref, v_row.on_doubt, v_row.attempts_max,
                        case when v_quiet is not null then 'quiet' end, v_quiet);
                    result := case when v_row.status = 'dead' and (v_row.credit = 'gone' or v_row.errcode = 43101)
                                   then 'redriven, but its credit was gone' else 'redriven' end;
                    v_changed := v_changed + 1;
                end if;
            exception when check_violation then
                -- The rules for a row grew stricter since it was inserted. The message names the rule, not the text.
                new_id := null;
                result := sqlerrm;
            end;
        end if;
        return next;
    end loop;
    perform wxnotify_record_action('redrive',
        coalesce(p_filter, jsonb_build_object('ids', p_ids)) || jsonb_strip_nulls(jsonb_build_object('send_at', p_send_at, 'expire_at', p_expire_at)),
        v_changed, p_note);
end $$;

comment on function redrive_notifications is 'Inserts a new row from each dead, unresolved, expired or cancelled one, at most 1,000 a call; the old row stays in the history, and is redriven once (then redrive the new one). An expire_at that has passed is dropped. A message whose credit was gone is answered so: it meets 43101 again unless the user gave a new one; an unresolved one may arrive twice.';

grant execute on function redrive_notifications to wxnotify_operator;
