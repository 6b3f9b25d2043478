-- What WeChat itself says of a mini-program, kept here: its templates, so that a message that does not fit one is refused
-- at INSERT instead of costing a send, and its quotas, so that sends keep to them. Workers ask now and then: each question
-- is a row of wechat_lookups that one of them claims, without a leader.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Questions to WeChat ---------------------------------------------------------------------------------------------------

create table wechat_lookups (
    appid         text not null references wechat_apps on delete cascade,
    lookup        text not null,
    due_at        timestamptz not null default clock_timestamp(),
    claim         bigint not null default 0,
    claimed_by    text,
    claimed_until timestamptz,
    done_at       timestamptz,
    failed_at     timestamptz,
    failures      integer not null default 0,
    errcode       bigint,
    error         text,
    primary key (appid, lookup),
    constraint lookup_is_known check (lookup in ('templates', 'quota'))
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

comment on table wechat_lookups is 'What workers ask WeChat from time to time about each mini-program: its templates (gettemplate) and its quota (quota/get). One worker asks, whoever claims the row first.';
comment on column wechat_lookups.appid is 'The mini-program.';
comment on column wechat_lookups.lookup is 'templates or quota.';
comment on column wechat_lookups.due_at is 'When it is asked next.';
comment on column wechat_lookups.claim is 'Number of the latest claim; an answer to an older one changes nothing.';
comment on column wechat_lookups.claimed_by is 'Who is asking now.';
comment on column wechat_lookups.claimed_until is 'Until then nobody else asks; null: nobody is asking.';
comment on column wechat_lookups.done_at is 'When WeChat last answered.';
comment on column wechat_lookups.failed_at is 'When asking last failed; null: not since done_at.';
comment on column wechat_lookups.failures is 'Failures in a row; each waits longer.';
comment on column wechat_lookups.errcode is 'WeChat''s errcode of the last failure.';
comment on column wechat_lookups.error is 'The last failure in words.';

create function wxnotify_claim_lookups(p_appids text[], p_worker text, p_claim_secs double precision)
returns table (appid text, lookup text, claim bigint)
language plpgsql volatile set search_path from current as $$
#variable_conflict use_column
begin
    insert into wechat_lookups (appid, lookup)
    select a.appid, l.lookup from wechat_apps a cross join (values ('templates'), ('quota')) l (lookup)
    where a.appid = any (p_appids) and not exists (select from wechat_lookups k where k.appid = a.appid and k.lookup = l.lookup)
    on conflict do nothing;
    return query
        update wechat_lookups w
        set claim = w.claim + 1, claimed_by = p_worker, claimed_until = clock_timestamp() + p_claim_secs * interval '1 second'
        from (select k.appid, k.lookup from wechat_lookups k
              where k.appid = any (p_appids) and k.due_at <= clock_timestamp()
                and (k.claimed_until is null or k.claimed_until <= clock_timestamp())
              order by k.due_at limit 16 for update skip locked) d
        where w.appid = d.appid and w.lookup = d.lookup
        returning w.appid, w.lookup, w.claim;
end $$;
comment on function wxnotify_claim_lookups is 'Claims the questions that are due, at most 16 of these mini-programs; others respect the claim for so many seconds.';

create function wxnotify_claim_lookup(p_appid text, p_lookup text, p_worker text, p_claim_secs double precision) returns bigint
language sql volatile set search_path from current as $$
    insert into wechat_lookups as w (appid, lookup, claim, claimed_by, claimed_until)
    values (p_appid, p_lookup, 1, p_worker, clock_timestamp() + p_claim_secs * interval '1 second')
    on conflict (appid, lookup) do update set claim = w.claim + 1, claimed_by = excluded.claimed_by, claimed_until = excluded.claimed_until
    returning w.claim
$$;
comment on function wxnotify_claim_lookup is 'Claims one question at once, for an operator who wants the answer now; an answer under an older claim changes nothing.';

-- p_gap_secs keeps the question from being asked again and again: these calls have quotas of their own.
create function wxnotify_want_lookup(p_appid text, p_lookup text, p_gap_secs double precision) returns void
language sql volatile set search_path from current as $$
    update wechat_lookups w
    set due_at = greatest(clock_timestamp(), greatest(w.done_at, w.failed_at) + p_gap_secs * interval '1 second')
    where w.appid = p_appid and w.lookup = p_lookup and w.errcode is distinct from 45009
      and w.due_at > greatest(clock_timestamp(), greatest(w.done_at, w.failed_at) + p_gap_secs * interval '1 second')
$$;
comment on function wxnotify_want_lookup is 'Brings a question forward: now, or so many seconds after it was last asked; not when its own quota is used up.';

-- How long after the p_failures-th failure in a row it is asked again: by WeChat's rule when its quota is used up, else 1, 2, 4 … minutes,
-- at most 6 hours, with a quarter of jitter.
create function wxnotify_fail_lookup(p_appid text, p_lookup text, p_claim bigint, p_errcode bigint, p_error text) returns timestamptz
language sql volatile set search_path from current as $$
    update wechat_lookups w
    set claimed_by = null, claimed_until = null, failed_at = clock_timestamp(), failures = least(w.failures + 1, 1000),
        errcode = p_errcode, error = left(p_error, 500),
        due_at = case when p_errcode = 45009 then wxnotify_pause_end(null, 'china_midnight', true)
                      else clock_timestamp() + least(60 * 2.0 ^ least(w.failures, 20), 21600) * (0.75 + random() / 2) * interval '1 second' end
    where w.appid = p_appid and w.lookup = p_lookup and w.claim = p_claim
    returning w.due_at
$$;
comment on function wxnotify_fail_lookup is 'Ends a claim whose question failed and says when it is asked again: at 00:00 China time after 45009, else after a wait that doubles.';

create function wxnotify_end_lookup(p_appid text, p_lookup text, p_claim bigint, p_next_secs double precision) returns boolean
language plpgsql volatile set search_path from current as $$
begin
    update wechat_lookups w
    set claimed_by = null, claimed_until = null, done_at = clock_timestamp(), failed_at = null, failures = 0, errcode = null, error = null,
        due_at = clock_timestamp() + p_next_secs * (0.9 + random() / 5) * interval '1 second'
    where w.appid = p_appid and w.lookup = p_lookup and w.claim = p_claim;
    return found;
end $$;
comment on function wxnotify_end_lookup is 'Ends a claim whose question was answered. False: a newer claim has taken its place.';

-- Templates -------------------------------------------------------------------------------------------------------------

alter table wechat_templates
    add title text,
    add kind text,
    add content text,
    add fields text[],
    add enums jsonb,
    add data_check text not null default 'reject',
    add listed_at timestamptz,
    add synced_at timestamptz,
    add removed_at timestamptz,
    add constraint kind_is_known check (kind in ('one_time', 'long_term')),
    add constraint data_check_is_known check (data_check in ('reject', 'truncate', 'off')),
    add constraint enums_are_an_object check (jsonb_typeof(enums) = 'object');
alter table wechat_templates set (autovacuum_analyze_threshold = 20);

comment on column wechat_templates.title is 'Its title, from WeChat''s list; null: never listed.';
comment on column wechat_templates.kind is 'one_time (WeChat''s type 2) or long_term (type 3, also device templates); null: unknown.';
comment on column wechat_templates.content is 'Its text with the places of the fields, as WeChat lists it.';
comment on column wechat_templates.fields is 'The keys of its fields in order; each key begins with its type. Null: unknown, then rows are not checked against it.';
comment on column wechat_templates.enums is 'The values WeChat allows for a key, by key; null: none are listed.';
comment on column wechat_templates.data_check is 'What an INSERT that does not fit meets: reject (refused), truncate (free text that is too long is cut, the rest refused) or off. Set it with set_template_check().';
comment on column wechat_templates.listed_at is 'When WeChat''s list first had it.';
comment on column wechat_templates.synced_at is 'When WeChat''s list last had it. Older than 7 days, nothing is checked against it.';
comment on column wechat_templates.removed_at is 'When it was missing from WeChat''s list; null: it is listed, or the list was never read.';

-- The pause of a template that WeChat does not list is known by these words: whoever pauses or resumes it for another reason overwrites them.
create function wxnotify_removed_reason() returns text language sql immutable set search_path from current as $$
    select 'WeChat does not list this template any more'
$$;
comment on function wxnotify_removed_reason is 'The reason of a pause that begins when a template is missing from WeChat''s list and ends when it is back.';

-- Stores the answer to gettemplate. A list that is empty all of a sudden is believed only when an operator asks: it would
-- pause every template. Returns what changed, by template id; null: a newer claim has taken the place of p_claim.
create function wxnotify_store_templates(p_appid text, p_claim bigint, p_templates jsonb, p_believe_empty boolean) returns jsonb
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

-- Cuts what may be cut without telling a lie: free text. A number, a time or an order number that is cut would be another.
create function wxnotify_truncate_data(p_data jsonb) returns jsonb
language sql immutable set search_path from current as $$
    select coalesce(jsonb_object_agg(f.key,
        case when f.room is null or length(f.text) <= f.room then f.value
             when jsonb_typeof(f.value) = 'string' then to_jsonb(f.cut)
             else jsonb_set(f.value, '{value}', to_jsonb(f.cut)) end), p_data)
    from (
        -- A joiner or a space at the cut would leave half a picture or a gap before the dots.
        select d.key, d.value, d.room, d.text, rtrim(left(d.text, d.room - 1), U&' \3000\200D\FE0F') || '…' as cut
        from (
            select e.key, e.value,
                   case jsonb_typeof(e.value) when 'string' then e.value #>> '{}'
                        when 'object' then case when jsonb_typeof(e.value -> 'value') = 'string' then e.value ->> 'value' end end as text,
                   case when rtrim(e.key, '0123456789') = 'short_thing' then 10
                        when rtrim(e.key, '0123456789') in ('number', 'letter', 'symbol', 'character_string', 'time', 'date', 'amount', 'phone_number',
                             'car_number', 'name', 'phrase', 'enum', 'enum_string', 'const', e.key) then null
                        else 20 end as room
            from jsonb_each(p_data) e) d) f
$$;
comment on function wxnotify_truncate_data is 'The fields with free text (thing, short_thing and types WeChat does not document) cut to what WeChat takes, ending in ….';

-- What a row that does not plainly fit its template meets: it is cut, or refused with the key and the rule, never the value.
create function wxnotify_fit_data(p_appid text, p_template_id text, p_kind text, p_data jsonb) returns jsonb
language plpgsql stable set search_path from current as $$
declare
    v_template wechat_templates;
    v_column   text := 'data';
    v_fault    text;
    v_missing  text[];
    v_key      text;
    v_text     text;
begin
    select * into v_template from wechat_templates t where t.appid = p_appid and t.template_id = p_template_id;
    if v_template.data_check = 'off' or p_data is null or jsonb_typeof(p_data) <> 'object' then
        return p_data;
    end if;
    -- Cutting is dear, and mostly nothing is too long: no text has 21 characters in a row, none is short, none hides a quote.
    if v_template.data_check = 'truncate' and p_data::text ~ '[^"]{21}|short_thing|\\' then
        p_data := wxnotify_truncate_data(p_data);
    end if;
    if v_template.fields is null or v_template.removed_at is not null or v_template.synced_at <= now() - interval '7 days' then
        return p_data;
    end if;
    if (v_template.kind = 'one_time') <> (coalesce(p_kind, 'one_time') = 'one_time') then
        v_column := 'kind';
        v_fault := case v_template.kind
            when 'one_time' then 'must be one_time: WeChat lists this template as one-time'
            else 'must be long_term or device: WeChat lists this template as long-term' end;
    elsif p_data = '{}' then
        return p_data;   -- a held row: it is looked at again when it gets its data
    else
        v_missing := array(select f.key from unnest(v_template.fields) with ordinality f (key, place) where not p_data ? f.key order by f.place);
        select k.key into v_key from jsonb_object_keys(p_data) k (key) where k.key <> all (v_template.fields) order by k.key limit 1;
        v_fault := case
            when v_missing <> '{}' then format('%s: missing', array_to_string(v_missing, ', '))
            when v_key is not null then format('%s: the template has no such field', left(v_key, 64)) end;
        if v_fault is not null then
            v_fault := v_fault || format('; its fields are %s', array_to_string(v_template.fields, ', '));
        end if;
        for v_key in select e.key from jsonb_object_keys(v_template.enums) e (key) where v_fault is null order by e.key loop
            v_text := case jsonb_typeof(p_data -> v_key) when 'object' then p_data -> v_key ->> 'value' else p_data ->> v_key end;
            if not coalesce(v_template.enums -> v_key ? v_text, false) then
                v_fault := format('%s: must be one of %s', v_key, (select string_agg(e, ', ') from jsonb_array_elements_text(v_template.enums -> v_key) e));
            end if;
        end loop;
    end if;
    if v_fault is not null then
        raise exception using errcode = 'check_violation', table = 'pending_notifications', column = v_column,
            message = format('pending_notifications.%s: %s', v_column, v_fault),
            hint = format('Nothing was stored. This is template %s as WeChat listed it at %s. If it was changed since, run `wxnotify template sync %s`; to store such rows all the same, `wxnotify template check %s %s off`.',
                          p_template_id, to_char(v_template.synced_at, 'YYYY-MM-DD HH24:MI TZ'), p_appid, p_appid, p_template_id);
    end if;
    return p_data;
end $$;
comment on function wxnotify_fit_data is 'Fits a row''s data to its template, or raises with the key and the rule.';

-- Most rows fit, and most follow a row of the same template: what fits it is remembered in two parameters until the end of
-- the transaction, since a look at the table for every row would cost half as much as the rest of the INSERT. Producers may
-- not read wechat_templates, so the trigger acts as its owner; names and operators are written out in full, because a SET
-- search_path on a function that runs for every row costs more than what it does.
do $do$
begin
    execute format($create$
        create function wxnotify_heed_template() returns trigger language plpgsql security definer as $$
        declare
            v_row    pg_catalog.text := new.appid operator(pg_catalog.||) ' ' operator(pg_catalog.||) new.template_id
                                        operator(pg_catalog.||) ' ' operator(pg_catalog.||) new.kind;
            v_fields pg_catalog.text;   -- the fields such a row must have; '': any; null: more must be looked at
        begin
            if pg_catalog.current_setting('wxnotify.template', true) operator(pg_catalog.=) v_row then
                v_fields := pg_catalog.current_setting('wxnotify.template_fields', true);
            else
                select case
                    when t.data_check operator(pg_catalog.=) 'truncate' then null
                    when t.data_check operator(pg_catalog.=) 'off' or t.fields is null or t.removed_at is not null
                      or t.synced_at operator(pg_catalog.<=) (pg_catalog.now() operator(pg_catalog.-) '7 days'::pg_catalog.interval) then ''
                    when t.enums is null and (t.kind operator(pg_catalog.=) 'one_time') operator(pg_catalog.=) (new.kind operator(pg_catalog.=) 'one_time')
                        then t.fields::pg_catalog.text
                    end
                into v_fields
                from %1$I.wechat_templates t
                where t.appid operator(pg_catalog.=) new.appid and t.template_id operator(pg_catalog.=) new.template_id;
                if not found then
                    v_fields := '';
                end if;
                if v_fields is not null and v_row is not null then
                    v_row := pg_catalog.set_config('wxnotify.template', v_row, true);
                    v_row := pg_catalog.set_config('wxnotify.template_fields', v_fields, true);
                end if;
            end if;
            if v_fields operator(pg_catalog.=) '' then
                return new;
            end if;
            if pg_catalog.jsonb_typeof(new.data) operator(pg_catalog.=) 'object'
               and (new.data operator(pg_catalog.?&) v_fields::pg_catalog.text[])
               and (new.data operator(pg_catalog.-) v_fields::pg_catalog.text[]) operator(pg_catalog.=) '{}' then
                return new;
            end if;
            new.data := %1$I.wxnotify_fit_data(new.appid, new.template_id, new.kind, new.data);
            return new;
        end $$
    $create$, current_schema());
end $do$;
comment on function wxnotify_heed_template is 'Trigger: checks a row against WeChat''s list of its template, if that is known.';

-- Its name puts it before arrive, which then checks what was cut here.
create trigger accord before insert or update of appid, template_id, kind, data, held on pending_notifications
    for each row execute function wxnotify_heed_template();

create function set_template_check(p_appid text, p_template_id text, p_check text, p_note text default null) returns void
language plpgsql volatile set search_path from current as $$
begin
    if p_check is null or p_check not in ('reject', 'truncate', 'off') then
        raise exception 'check %: must be reject, truncate or off', coalesce(p_check, 'null') using errcode = '22023';
    end if;
    perform wxnotify_need_app(p_appid);
    insert into wechat_templates (appid, template_id, data_check) values (p_appid, p_template_id, p_check)
    on conflict (appid, template_id) do update set data_check = excluded.data_check;
    perform wxnotify_record_action('set_template_check', jsonb_build_object('appid', p_appid, 'template_id', p_template_id, 'check', p_check), 1, p_note);
end $$;
comment on function set_template_check is 'What an INSERT that does not fit its template meets: reject, truncate (free text that is too long is cut) or off.';

create view notification_stranded as
select o.appid, o.template_id, o.title, o.removed_at, s.template_id as successor_id, c.held, c.waiting
from wechat_templates o
left join lateral (
    select n.template_id from wechat_templates n
    where n.appid = o.appid and n.title = o.title and n.fields @> o.fields and n.fields <@ o.fields
      and n.synced_at is not null and n.removed_at is null
    order by n.listed_at desc, n.template_id limit 1) s on true
cross join lateral (
    select count(*) filter (where p.held) as held, count(*) filter (where not p.held) as waiting
    from pending_notifications p where p.appid = o.appid and p.template_id = o.template_id) c
where o.removed_at is not null and c.held + c.waiting > 0;
comment on view notification_stranded is 'Rows whose template WeChat does not list any more. Their credits were given for that template id: a successor with the same title and fields cannot spend them.';
comment on column notification_stranded.appid is 'The mini-program.';
comment on column notification_stranded.template_id is 'The template that is gone.';
comment on column notification_stranded.title is 'Its title, if it was ever listed.';
comment on column notification_stranded.removed_at is 'When it was first missing from WeChat''s list.';
comment on column notification_stranded.successor_id is 'A listed template with the same title and fields; null: none.';
comment on column notification_stranded.held is 'Held credits on the old id.';
comment on column notification_stranded.waiting is 'Other rows not final on the old id.';

-- Quotas ----------------------------------------------------------------------------------------------------------------

alter table wechat_apps
    add quota_daily_limit bigint,
    add quota_used bigint,
    add quota_remaining bigint,
    add quota_rate_per_second real,
    add quota_read_at timestamptz,
    add rate_factor real not null default 1,
    add rate_cut_at timestamptz,
    add constraint rate_factor_is_a_share check (rate_factor > 0 and rate_factor <= 1),
    add constraint quota_rate_is_positive check (quota_rate_per_second > 0);
comment on column wechat_apps.rate_per_second is 'Most sends per second of all workers together, set by an operator; null: as quota/get says.';
comment on column wechat_apps.quota_daily_limit is 'Sends a day, by quota/get; the day begins at 00:00 China time.';
comment on column wechat_apps.quota_used is 'Sends of the day, by quota/get; of every program that sends for the mini-program.';
comment on column wechat_apps.quota_remaining is 'Sends left of the day, by quota/get. WeChat counts within about 1 %.';
comment on column wechat_apps.quota_rate_per_second is 'Sends per second that quota/get allows; null: it names none.';
comment on column wechat_apps.quota_read_at is 'When quota/get last answered.';
comment on column wechat_apps.rate_factor is 'Share of the rate left by the last halving; a tenth of the rate comes back each minute.';
comment on column wechat_apps.rate_cut_at is 'When the rate was last halved, after 45011.';

alter table wechat_errcodes add halves_rate boolean not null default false;
comment on column wechat_errcodes.halves_rate is 'The mini-program sent too fast: its rate is halved for some minutes.';
update wechat_errcodes set halves_rate = true where errcode in (45011, 44990);

create function wxnotify_rate_factor(p_factor real, p_cut_at timestamptz) returns real
language sql stable set search_path from current as $$
    select least(1, p_factor + coalesce(extract(epoch from statement_timestamp() - p_cut_at) / 600, 0))::real
$$;
comment on function wxnotify_rate_factor is 'The share of its rate that a mini-program may use now: a tenth comes back each minute after a halving.';

-- What quota/get names is not used to the last call: a second's burst would go over it.
create function wxnotify_app_rate(p_appid text) returns real
language sql stable set search_path from current as $$
    select (coalesce(a.rate_per_second, a.quota_rate_per_second * 0.95) * wxnotify_rate_factor(a.rate_factor, a.rate_cut_at))::real
    from wechat_apps a where a.appid = p_appid
$$;
comment on function wxnotify_app_rate is 'Sends per second of a mini-program now: the operator''s rate, else 95 % of quota/get''s, less what a halving took; null: no limit is known.';

-- Everything in flight meets the same refusal: within half a minute it counts once.
create function wxnotify_halve_rate(p_appid text) returns void
language sql volatile set search_path from current as $$
    update wechat_apps a
    set rate_factor = greatest(wxnotify_rate_factor(a.rate_factor, a.rate_cut_at) / 2, 0.0625), rate_cut_at = clock_timestamp()
    where a.appid = p_appid and (a.rate_cut_at is null or a.rate_cut_at <= clock_timestamp() - interval '30 seconds')
$$;
comment on function wxnotify_halve_rate is 'Halves a mini-program''s rate, at most once in 30 seconds, to a sixteenth at the least.';

-- What else follows from a pause that WeChat caused.
create function wxnotify_heed_errcode(p_appid text, p_errcode bigint) returns void
language plpgsql volatile set search_path from current as $$
begin
    if exists (select from wechat_errcodes e where e.errcode = p_errcode and e.halves_rate) then
        perform wxnotify_halve_rate(p_appid);
        perform wxnotify_want_lookup(p_appid, 'quota', 600);
    elsif p_errcode = 45009 then
        -- Not at once: the call that was refused is sure to be over the quota, only later it may not be. And what was asked
        -- before, when calls were left, must not end the pause now: its claim is no longer the latest.
        update wechat_lookups w
        set claim = w.claim + 1, claimed_by = null, claimed_until = null,
            due_at = clock_timestamp() + interval '54 minutes' + random() * interval '12 minutes'
        where w.appid = p_appid and w.lookup = 'quota';
    elsif p_errcode in (40037, 40036, 47003) then
        perform wxnotify_want_lookup(p_appid, 'templates', 600);
    end if;
end $$;
comment on function wxnotify_heed_errcode is 'After an errcode paused a mini-program or template: halves the rate, or brings the question to WeChat forward that the errcode raises.';

-- Stores the answer to quota/get. A pause for 45009 ends when calls are left again; one row is tried first. While it lasts the
-- question is asked every hour, otherwise every day. False: a newer claim has taken the place of p_claim.
create function wxnotify_store_quota(p_appid text, p_claim bigint, p_daily_limit bigint, p_used bigint, p_remaining bigint, p_rate_per_second real)
returns boolean
language plpgsql volatile set search_path from current as $$
declare
    v_used_up boolean;
begin
    select a.pause_errcode = 45009 and a.paused_until > clock_timestamp() into v_used_up from wechat_apps a where a.appid = p_appid for update;
    if not wxnotify_end_lookup(p_appid, 'quota', p_claim, case when v_used_up and p_remaining <= 0 then 3600 else 86400 end) then
        return false;
    end if;
    update wechat_apps a
    set quota_daily_limit = p_daily_limit, quota_used = p_used, quota_remaining = p_remaining,
        quota_rate_per_second = case when p_rate_per_second > 0 then p_rate_per_second end, quota_read_at = clock_timestamp(),
        paused_until = case when v_used_up and p_remaining > 0 then clock_timestamp() else a.paused_until end,
        probing = a.probing or coalesce(v_used_up and p_remaining > 0, false)
    where a.appid = p_appid;
    if v_used_up and p_remaining > 0 then
        perform wxnotify_lock_app(p_appid);
        perform wxnotify_unpark(p_appid, null, 'app', 1000);
    end if;
    return true;
end $$;
comment on function wxnotify_store_quota is 'Stores what quota/get says of sends: limit, used, left and rate. Ends a pause for 45009 when calls are left.';

revoke execute on function wxnotify_claim_lookups, wxnotify_claim_lookup, wxnotify_want_lookup, wxnotify_fail_lookup, wxnotify_end_lookup,
    wxnotify_removed_reason, wxnotify_store_templates, wxnotify_truncate_data, wxnotify_fit_data, wxnotify_heed_template, set_template_check,
    wxnotify_rate_factor, wxnotify_app_rate, wxnotify_halve_rate, wxnotify_heed_errcode, wxnotify_store_quota from public;
