-- Four group roles, so that nobody but an administrator needs the owner's password: wxnotify_producer, wxnotify_operator,
-- wxnotify_viewer and wxnotify_worker. They cannot log in; a login becomes a member of one: GRANT wxnotify_producer TO shop.
--
-- Roles belong to the whole server, and several databases in it may have a wxnotify; grants belong to this database. Where
-- the migrating user may not create roles, an administrator does (deploy/roles.sql), and the next `wxnotify migrate` grants.
--
-- The kernel's functions run with the rights of their caller, the worker's role, which costs nothing. Operators' verbs are
-- SECURITY DEFINER instead: an operator changes rows by a verb, which leaves its trace in operator_actions, or not at all.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- A producer sees and changes its own rows alone. The owner passes without any check; the worker by a policy that is
-- constantly true (below), which the planner drops. Hence none of the kernel's statements gains a filter.
alter table pending_notifications enable row level security;
create policy own_rows on pending_notifications using (producer = session_user) with check (true);
comment on policy own_rows on pending_notifications is 'A database user sees, changes and cancels the rows that it inserted or armed. INSERT sets producer, whatever was given.';

-- A barrier, so that no function of a curious producer sees other rows before the filter does.
create view own_notifications with (security_barrier) as
select n.* from notifications n where n.producer = session_user;
comment on view own_notifications is 'The notifications, pending and final, that the current database user inserted or armed. Filter by id or business_ref.';
do $$
declare
    v_column record;
begin
    for v_column in select a.attname, col_description(a.attrelid, a.attnum) as words
                    from pg_attribute a where a.attrelid = 'notifications'::regclass and a.attnum > 0 loop
        execute format('comment on column own_notifications.%I is %L', v_column.attname, v_column.words);
    end loop;
end $$;

-- Creates the roles that are missing, if this user may, and grants what each is for; every `wxnotify migrate` calls it.
-- Returns what an administrator should mend.
create function wxnotify_grant_roles() returns setof text
language plpgsql volatile set search_path from current as $$
declare
    v_schema   constant text := current_schema();
    v_about    constant text[] := array[
        ['wxnotify_producer', 'wxnotify: business systems that insert notifications and change or cancel their own'],
        ['wxnotify_operator', 'wxnotify: people who look at every notification and use the verbs'],
        ['wxnotify_viewer', 'wxnotify: dashboards, which see no receiver and no message'],
        ['wxnotify_worker', 'wxnotify: the workers, `wxnotify run`; the only ones to read access tokens']];
    v_verbs    constant text[] := array['add_app', 'cancel_notification', 'cancel_notifications', 'confirm_not_sent', 'confirm_sent',
        'explain_notification', 'pause_app_by_operator', 'pause_template_by_operator', 'redrive_notification', 'redrive_notifications',
        'reschedule_notification', 'reschedule_notifications', 'resume_app', 'resume_template', 'retry_anyway', 'set_app_rate',
        'set_default_app', 'set_template_check', 'wxnotify_end_doubts', 'wxnotify_ingest_event', 'wxnotify_record_action', 'wxnotify_want_lookup'];
    -- Called by the views, with the rights of who reads the view.
    v_of_views constant text[] := array['wxnotify_advice', 'wxnotify_app_rate', 'wxnotify_backlog', 'wxnotify_errcode_in_words', 'wxnotify_lanes',
        'wxnotify_rate_factor', 'wxnotify_which_43101'];
    v_private  constant text[] := array['openid', 'login_code', 'page', 'data', 'extra', 'dedup_key', 'payload'];
    v_missing  text[] := '{}';
    v_roles    text[];
    v_at       int;
    v_object   record;
    v_rights   text;
begin
    perform pg_advisory_xact_lock(20784, 1);
    for v_at in 1..cardinality(v_about) / 2 loop
        continue when to_regrole(v_about[v_at][1]) is not null;
        begin
            execute format('create role %I nologin', v_about[v_at][1]);
            execute format('comment on role %I is %L', v_about[v_at][1], v_about[v_at][2]);
        exception
            when duplicate_object or unique_violation then null;  -- made at this moment by the migration of another database
            when insufficient_privilege then v_missing := v_missing || v_about[v_at][1];
        end;
    end loop;
    if v_missing <> '{}' then
        return next format('%s cannot create the roles %s: have an administrator of the server run deploy/roles.sql, then run `wxnotify migrate` again',
            current_user, array_to_string(v_missing, ', '));
    end if;
    if exists (select from pg_namespace n cross join lateral aclexplode(n.nspacl) a
               where n.nspname = v_schema and a.grantee = 0 and a.privilege_type = 'CREATE') then
        return next format('every user of this database may create objects in the schema %I and could slip functions under ours: '
            || 'REVOKE CREATE ON SCHEMA %I FROM PUBLIC', v_schema, v_schema);
    end if;
    v_roles := array(select r.rolname from pg_roles r where r.rolname = any (v_about) order by 1);

    for v_at in 1..cardinality(v_roles) loop
        if not has_schema_privilege(v_roles[v_at], v_schema, 'usage') then
            execute format('grant usage on schema %I to %I', v_schema, v_roles[v_at]);
        end if;
    end loop;
    if 'wxnotify_worker' = any (v_roles)
       and not exists (select from pg_policy where polrelid = 'pending_notifications'::regclass and polname = 'worker') then
        create policy worker on pending_notifications to wxnotify_worker using (true);
        comment on policy worker on pending_notifications is 'A worker sees every row.';
    end if;

    -- Tables: the worker's, by what it does with each. A table that is not named here is one it keeps.
    for v_object in
        select c.relname, c.oid, c.relkind = 'v' as is_view from pg_class c
        where c.relnamespace = quote_ident(v_schema)::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
          and (c.relname in ('pending_notifications', 'notifications', 'own_notifications', 'operator_actions', '_sqlx_migrations')
               or c.relname like 'notification\_%' or c.relname like 'notifications\_%' or c.relname like 'wechat\_%')
        order by c.relname
    loop
        v_rights := case
            when v_object.is_view or v_object.relname in ('_sqlx_migrations', 'wechat_errcodes', 'notification_redrives') then 'select'
            when v_object.relname = 'operator_actions' then null
            when v_object.relname = 'notification_attempts' then 'select, insert'
            when v_object.relname = 'notification_history' then 'select, insert, update'
            when v_object.relname = 'wechat_apps' then 'select, update'
            else 'select, insert, update, delete' end;
        if v_rights is not null and 'wxnotify_worker' = any (v_roles) then
            execute format('grant %s on %I to wxnotify_worker', v_rights, v_object.relname);
        end if;

        v_rights := case
            when v_object.relname = 'own_notifications' then null
            when v_object.is_view or v_object.relname in ('_sqlx_migrations', 'wechat_apps', 'wechat_lookups', 'wechat_templates', 'notification_redrives', 'operator_actions') then 'select'
            when v_object.relname = 'wechat_errcodes' then 'select, insert, update, delete' end;
        if v_rights is not null and 'wxnotify_operator' = any (v_roles) then
            execute format('grant %s on %I to wxnotify_operator', v_rights, v_object.relname);
        end if;

        -- What tells of a person is left out; a view that has nothing of the kind is granted whole.
        if (v_object.is_view and v_object.relname <> 'own_notifications' or v_object.relname = 'wechat_errcodes') and 'wxnotify_viewer' = any (v_roles) then
            select case when bool_or(a.attname = any (v_private))
                        then format('(%s)', string_agg(quote_ident(a.attname), ', ') filter (where a.attname <> all (v_private))) end
            into v_rights from pg_attribute a where a.attrelid = v_object.oid and a.attnum > 0 and not a.attisdropped;
            execute format('grant select %s on %I to wxnotify_viewer', v_rights, v_object.relname);
        end if;
    end loop;
    if 'wxnotify_producer' = any (v_roles) then
        grant select, insert, delete on pending_notifications to wxnotify_producer;
        grant update (send_at, expire_at, data, page, held) on pending_notifications to wxnotify_producer;
        grant select on own_notifications to wxnotify_producer;
    end if;
    if 'wxnotify_worker' = any (v_roles) then
        grant select, update on sequence notification_bell to wxnotify_worker;
    end if;

    for v_object in
        select p.oid::regprocedure as function, p.proname, p.prosecdef from pg_proc p
        where p.pronamespace = quote_ident(v_schema)::regnamespace and (p.proname like 'wxnotify\_%' or p.proname = any (v_verbs) or p.proname = 'arm')
        order by p.proname
    loop
        -- arm finds credits whoever recorded them: a credit is the mini-program's, not its recorder's.
        if (v_object.proname = any (v_verbs) or v_object.proname = 'arm') and not v_object.prosecdef then
            execute format('alter function %s security definer', v_object.function);
        end if;
        if v_object.proname = any (v_verbs || v_of_views) and 'wxnotify_operator' = any (v_roles) then
            execute format('grant execute on function %s to wxnotify_operator', v_object.function);
        end if;
        if v_object.proname = any (v_of_views || '{explain_notification}'::text[]) and 'wxnotify_viewer' = any (v_roles) then
            execute format('grant execute on function %s to wxnotify_viewer', v_object.function);
        end if;
        if v_object.proname in ('arm', 'wxnotify_lanes') and 'wxnotify_producer' = any (v_roles) then
            execute format('grant execute on function %s to wxnotify_producer', v_object.function);
        end if;
        if v_object.proname like 'wxnotify\_%' and 'wxnotify_worker' = any (v_roles)
           and v_object.proname not in ('wxnotify_grant_roles', 'wxnotify_end_doubts', 'wxnotify_record_action', 'wxnotify_lock_rows') then
            execute format('grant execute on function %s to wxnotify_worker', v_object.function);
        end if;
    end loop;
end $$;
revoke execute on function wxnotify_grant_roles from public;
comment on function wxnotify_grant_roles is 'Creates wxnotify''s roles where that is allowed and grants what each is for. Returns what an administrator should mend.';

do $$
declare
    v_advice text;
begin
    for v_advice in select a from wxnotify_grant_roles() a loop
        raise notice '%', v_advice;
    end loop;
end $$;
