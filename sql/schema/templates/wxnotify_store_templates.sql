-- Stores the answer to gettemplate. A list that is empty all of a sudden is believed only when an operator asks: it would
-- pause every template. Returns what changed, by template id; null: a newer claim has taken the place of p_claim.
create or replace function wxnotify_store_templates(p_appid text, p_claim bigint, p_templates jsonb, p_believe_empty boolean) returns jsonb
language plpgsql volatile set search_path from current as $$
declare
    v_now      timestamptz := clock_timestamp();
    v_listed   record;
    v_known    wechat_templates;
    v_change   text;
    v_changes  jsonb := '{}';
    v_returned text[] := '{}';
    v_doubtful boolean;
    v_id       text;
begin
    if not wxnotify_end_lookup(p_appid, 'templates', p_claim, 86400) then
        return null;
    end if;
    for v_listed in select * from jsonb_to_recordset(p_templates) t (template_id text, title text, kind text, content text, fields text[], enums jsonb)
                    order by t.template_id loop
        select * into v_known from wechat_templates t where t.appid = p_appid and t.template_id = v_listed.template_id for update;
        v_change := case when v_known.synced_at is null then 'added'
                         when v_known.removed_at is not null then 'back'
                         when (v_known.title, v_known.kind, v_known.fields, v_known.enums)
                              is distinct from (v_listed.title, v_listed.kind, v_listed.fields, v_listed.enums) then 'changed' end;
        if v_known.pause_reason = wxnotify_removed_reason() then
            v_returned := v_returned || v_listed.template_id;
        end if;
        insert into wechat_templates as t (appid, template_id, title, kind, content, fields, enums, listed_at, synced_at)
        values (p_appid, v_listed.template_id, v_listed.title, v_listed.kind, v_listed.content, v_listed.fields, v_listed.enums, v_now, v_now)
        on conflict (appid, template_id) do update
        set title = excluded.title, kind = excluded.kind, content = excluded.content, fields = excluded.fields, enums = excluded.enums,
            listed_at = coalesce(t.listed_at, v_now), synced_at = v_now, removed_at = null;
        if v_change is not null then
            v_changes := v_changes || jsonb_build_object(v_listed.template_id, v_change);
        end if;
    end loop;
    v_doubtful := jsonb_array_length(p_templates) = 0 and not p_believe_empty;
    for v_known in
        select * from wechat_templates t
        where t.appid = p_appid and t.synced_at is distinct from v_now and not v_doubtful
          and (t.synced_at is not null or t.pause_errcode in (40037, 40036))
        order by t.template_id for update
    loop
        if v_known.removed_at is null then
            v_changes := v_changes || jsonb_build_object(v_known.template_id, 'removed');
        end if;
        update wechat_templates t
        set removed_at = coalesce(t.removed_at, v_now),
            -- Another's pause stays as it is; WeChat's own word for the same thing becomes this one.
            paused_until  = case when t.paused_until > v_now and t.pause_errcode is distinct from 40037 and t.pause_errcode is distinct from 40036
                                 then t.paused_until else 'infinity' end,
            pause_reason  = case when t.paused_until > v_now and t.pause_errcode is distinct from 40037 and t.pause_errcode is distinct from 40036
                                 then t.pause_reason else wxnotify_removed_reason() end,
            pause_errcode = case when t.paused_until > v_now and t.pause_errcode is distinct from 40037 and t.pause_errcode is distinct from 40036
                                 then t.pause_errcode else 40037 end
        where t.appid = p_appid and t.template_id = v_known.template_id;
    end loop;
    if v_returned <> '{}' then
        update wechat_templates t set paused_until = null, pause_reason = null, pause_errcode = null
        where t.appid = p_appid and t.template_id = any (v_returned);
        perform wxnotify_lock_app(p_appid);
        foreach v_id in array v_returned loop
            perform wxnotify_unpark(p_appid, v_id, 'template', 1000);
        end loop;
    end if;
    return v_changes;
end $$;

comment on function wxnotify_store_templates is 'Stores WeChat''s list of templates: what is missing from it is paused, what is back in it goes on if that was why it was paused. Returns what changed by template id (added, changed, removed, back); null: the claim is no longer the latest.';

grant execute on function wxnotify_store_templates to wxnotify_worker;
