-- Chooses the rows of a batch and writes them down: what is confirmed later is what was shown. A condition that is left out is not asked;
-- at least one must be given, since a mistyped key must find nothing, not everything.
create or replace function preview_batch(p_verb text, p_filter jsonb, p_rows_max integer default 100000) returns bigint
language plpgsql volatile security definer set search_path from current set jit = off as $$
declare
    v_id    bigint;
    v_rows  bigint;
    v_known constant text[] := array['ids', 'appid', 'template_id', 'errcode', 'without_errcode', 'statuses', 'business_ref', 'after', 'before', 'batch'];
    v_word  text;
begin
    select k into v_word from jsonb_object_keys(p_filter) k where k <> all (v_known) limit 1;
    if v_word is not null then
        raise exception 'unknown condition %', v_word using errcode = 'invalid_parameter_value', hint = 'Known are ' || array_to_string(v_known, ', ') || '.';
    end if;
    if jsonb_strip_nulls(p_filter - 'statuses') = '{}' then
        raise exception 'a batch needs a condition besides the status' using errcode = 'invalid_parameter_value', hint = 'Name an app, a template, an errcode, a business object, times or ids.';
    end if;
    delete from operator_batches b where b.state = 'preview' and b.previewed_at < clock_timestamp() - interval '1 day';
    insert into operator_batches (verb, actor, filter) values (p_verb, wxnotify_actor(), p_filter) returning id into v_id;

    if p_verb = 'redrive' then
        insert into operator_batch_rows (batch_id, id, cause, result)
        select v_id, h.id, concat_ws(' ', h.status, h.errcode, h.credit),
               case when r.redriven_id is not null then 'already redriven' when h.openid is null or h.openid like 'erased-%' then 'has no receiver' end
        from notification_history h left join notification_redrives r on r.redriven_id = h.id
        where h.status = any (case when p_filter->'statuses' is null then array['dead'] else array(select jsonb_array_elements_text(p_filter->'statuses')) end)
          and h.status in ('dead', 'unresolved', 'expired', 'cancelled')
          and (p_filter->'ids' is null or h.id in (select e::bigint from jsonb_array_elements_text(p_filter->'ids') e))
          and (p_filter->>'appid' is null or h.appid = p_filter->>'appid')
          and (p_filter->>'template_id' is null or h.template_id = p_filter->>'template_id')
          and (p_filter->>'errcode' is null or h.errcode = (p_filter->>'errcode')::bigint)
          and (not coalesce((p_filter->>'without_errcode')::boolean, false) or h.errcode is null)
          and (p_filter->>'business_ref' is null or h.business_ref = p_filter->>'business_ref')
          and (p_filter->>'after' is null or h.finished_at >= (p_filter->>'after')::timestamptz)
          and (p_filter->>'before' is null or h.finished_at < (p_filter->>'before')::timestamptz)
        limit p_rows_max + 1;
    elsif p_verb = 'cancel' then
        insert into operator_batch_rows (batch_id, id, cause, result)
        select v_id, p.id, case when p.held then 'held' when p.in_doubt_since is not null then 'in_doubt' else coalesce(p.waiting_for, 'waiting') end,
               case when p.in_doubt_since is not null then 'in doubt' end
        from pending_notifications p
        where (p_filter->'ids' is null or p.id in (select e::bigint from jsonb_array_elements_text(p_filter->'ids') e))
          and (p_filter->>'appid' is null or p.appid = p_filter->>'appid')
          and (p_filter->>'template_id' is null or p.template_id = p_filter->>'template_id')
          and (p_filter->>'errcode' is null or p.last_errcode = (p_filter->>'errcode')::bigint)
          and (not coalesce((p_filter->>'without_errcode')::boolean, false) or p.last_errcode is null)
          and (p_filter->>'business_ref' is null or p.business_ref = p_filter->>'business_ref')
          and (p_filter->>'after' is null or p.created_at >= (p_filter->>'after')::timestamptz)
          and (p_filter->>'before' is null or p.created_at < (p_filter->>'before')::timestamptz)
        limit p_rows_max + 1;
    else
        insert into operator_batch_rows (batch_id, id, cause, result, new_id)
        select v_id, r.id, 'redriven as ' || r.new_id, case when p.id is null then 'has ended' when p.in_doubt_since is not null then 'in doubt' end, r.new_id
        from operator_batch_rows r left join pending_notifications p on p.id = r.new_id
        where r.batch_id = (p_filter->>'batch')::bigint and r.new_id is not null;
    end if;

    get diagnostics v_rows = row_count;
    if v_rows > p_rows_max then
        delete from operator_batch_rows r where r.batch_id = v_id and r.id = (select max(m.id) from operator_batch_rows m where m.batch_id = v_id);
        update operator_batches b set more = true where b.id = v_id;
    end if;
    return v_id;
end $$;

comment on function preview_batch is 'Writes down which rows a verb (redrive, cancel, or undo of a redrive) would change, by a filter {"appid", "template_id", "errcode", "without_errcode", "statuses", "business_ref", "after", "before", "ids"} or {"batch"}; returns the batch. Nothing is changed before start_batch().';

grant execute on function preview_batch to wxnotify_operator;
