-- One read-only database that sees the views of several cells, each a wxnotify of its own (docs/scale.md). Run it once in an empty
-- database of any server that reaches the cells:
--
--     psql -v ON_ERROR_STOP=1 -d fleet -f deploy/fleet.sql
--     select fleet_add_cell('north', 'north-db.internal', 5432, 'wxnotify', 'fleet', 'the password of role fleet');
--     select * from fleet_cells;
--     select cell, status, next_at from fleet_notifications where business_ref = '20261122-0001';
--
-- A view of the fleet is the UNION ALL of the cells' views with the cell's name before them. A condition on the cell leaves the
-- others alone; conditions on other columns are sent to the cells. While a cell is down a query that needs it fails and names
-- its server: `select * from fleet_refresh()` leaves it out of the views until a later fleet_refresh() reaches it again, and
-- fleet_cells says so. Nothing here can change a cell: its tables are not imported, and its role need only read.

create extension if not exists postgres_fdw;

create table fleet_cells (
    cell         text primary key,
    is_reachable boolean not null default false,
    looked_at    timestamptz not null default clock_timestamp(),
    trouble      text,
    constraint cell_is_a_plain_name check (cell ~ '^[a-z][a-z0-9_]{0,30}$')
);
comment on table fleet_cells is 'The cells, and whether the views of the fleet hold them.';
comment on column fleet_cells.cell is 'Its name: the schema of its foreign tables is cell_ and this name, its server the same.';
comment on column fleet_cells.is_reachable is 'Whether fleet_refresh() reached it; the views hold the cells it did.';
comment on column fleet_cells.looked_at is 'When fleet_refresh() last tried.';
comment on column fleet_cells.trouble is 'What the last try said; null: it was reached.';

-- The views that make sense side by side. Those of the kernel's own, which `notifications` is built from, are left out.
create function fleet_view_names() returns text[]
language sql immutable as $$
    select array['notifications', 'notification_backlog', 'notification_failures', 'notification_dead_letters', 'notification_doubts',
                 'notification_credits', 'notification_workers_live', 'notification_pauses', 'wechat_tokens']
$$;
comment on function fleet_view_names is 'The views of a cell that the fleet shows.';

-- Tries every cell, then makes the views anew from those that answered. Call it when a cell has gone or come back, after an
-- upgrade of the cells, or every minute. With no cell reachable the views stay as they were.
create function fleet_refresh() returns setof fleet_cells
language plpgsql volatile set search_path from current as $$
declare
    v_cell text;
    v_view text;
    v_arms text;
begin
    perform pg_advisory_xact_lock(20784, hashtext('fleet'));
    for v_cell in select c.cell from fleet_cells c order by c.cell loop
        begin
            execute format('select from %I.notification_workers_live limit 1', 'cell_' || v_cell);
            update fleet_cells c set is_reachable = true, looked_at = clock_timestamp(), trouble = null where c.cell = v_cell;
        exception when others then
            update fleet_cells c set is_reachable = false, looked_at = clock_timestamp(), trouble = sqlerrm where c.cell = v_cell;
        end;
    end loop;
    if exists (select from fleet_cells c where c.is_reachable) then
        foreach v_view in array fleet_view_names() loop
            select string_agg(format('select %L::text as cell, v.* from %I.%I v', c.cell, 'cell_' || c.cell, v_view), ' union all ' order by c.cell)
            into v_arms from fleet_cells c where c.is_reachable;
            execute format('create or replace view %I as %s', 'fleet_' || regexp_replace(v_view, '^(notification|wechat)_', ''), v_arms);
        end loop;
    end if;
    return query select c.* from fleet_cells c order by c.cell;
end $$;
comment on function fleet_refresh is 'Tries every cell and makes the views of the fleet from those that answer.';

-- Takes a cell in, or again with other words after it moved or was upgraded. p_user: a role of the cell that may read its views.
-- p_sslmode: the password and every row cross a network, so by default the cell's certificate must be good for its host; the
-- authority's certificate is ~/.postgresql/root.crt of the user that runs this server, or say
-- alter server cell_north options (add sslrootcert '/path/ca.pem').
create function fleet_add_cell(
    p_cell text, p_host text, p_port int, p_database text, p_user text, p_password text, p_schema text default 'public',
    p_sslmode text default 'verify-full')
returns setof fleet_cells
language plpgsql volatile set search_path from current as $$
declare
    v_name text := 'cell_' || p_cell;
begin
    insert into fleet_cells (cell) values (p_cell) on conflict do nothing;
    if exists (select from pg_foreign_server where srvname = v_name) then
        perform fleet_drop_cell(p_cell);
        insert into fleet_cells (cell) values (p_cell);
    end if;
    -- Three seconds until a dead host is given up; async_capable: the cells work at the same time.
    execute format('create server %I foreign data wrapper postgres_fdw options (host %L, port %L, dbname %L, sslmode %L, connect_timeout ''3'', fetch_size ''1000'', '
        'updatable ''false'', truncatable ''false'', async_capable ''true'')', v_name, p_host, p_port, p_database,
        p_sslmode);
    execute format('create user mapping for public server %I options (user %L, password %L)', v_name, p_user, p_password);
    execute format('create schema %I', v_name);
    execute format('import foreign schema %I limit to (%s) from server %I into %I', p_schema,
        (select string_agg(quote_ident(n), ', ') from unnest(fleet_view_names()) n), v_name, v_name);
    return query select * from fleet_refresh();
end $$;
comment on function fleet_add_cell is 'Takes a cell into the fleet, or again after it moved or was upgraded.';

-- Takes a cell out. The views that held it are made anew by the next fleet_refresh().
create function fleet_drop_cell(p_cell text) returns void
language plpgsql volatile set search_path from current as $$
begin
    execute format('drop server if exists %I cascade', 'cell_' || p_cell);
    execute format('drop schema if exists %I cascade', 'cell_' || p_cell);
    delete from fleet_cells c where c.cell = p_cell;
end $$;
comment on function fleet_drop_cell is 'Takes a cell out of the fleet.';

-- They speak to the cells with the password that is stored here.
revoke execute on function fleet_refresh, fleet_add_cell, fleet_drop_cell from public;
