//! The four roles: the whole matrix of their rights, and what each cannot do by any way round.

use std::process::Output;

use clap::Parser;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use wxnotify::operate::execute;
use wxnotify::postgres::{Options, ThrowawayPostgres};
use wxnotify::store::Store;

use super::{Login, PASSWORD};
use crate::harness::{CLOSED_SCHEMA, Line, TestDatabase, assert_recorded, make_schema, wxnotify};
use crate::kernel::{APP, Outcome, Queue, in_secs, insert};

const DENIED: &str = "42501";
const ROLES: [&str; 4] = [
    "wxnotify_operator",
    "wxnotify_producer",
    "wxnotify_viewer",
    "wxnotify_worker",
];

async fn lines(pool: &PgPool, query: &'static str) -> Vec<String> {
    sqlx::query_scalar(query).fetch_all(pool).await.unwrap()
}

/// Every right of every role on every relation and function, as the catalog has it. A new object appears here as soon as
/// somebody may use it, and a lost right disappears.
#[tokio::test]
async fn each_role_has_exactly_the_rights_on_record() {
    let database = TestDatabase::new().await;
    let rights = lines(
        database.pool(),
        "select line from (
            select r.rolname || ' may ' || string_agg(lower(t.privilege), ', ' order by t.privilege) || ' ' || c.relname as line
            from pg_roles r
            cross join pg_class c
            cross join unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) t (privilege)
            where r.rolname = any (array['wxnotify_operator', 'wxnotify_producer', 'wxnotify_viewer', 'wxnotify_worker', 'wxnotify_console'])
              and c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v')
              and c.relname !~ '_20[0-9][0-9]_[0-9][0-9]$' and has_table_privilege(r.oid, c.oid, t.privilege)
            group by r.rolname, c.relname
            union all
            select r.rolname || ' may ' || lower(t.privilege) || ' ' || c.relname || ' (' || string_agg(a.attname, ', ' order by a.attname) || ')'
            from pg_roles r
            cross join pg_class c
            cross join unnest(array['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) t (privilege)
            join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            where r.rolname = any (array['wxnotify_operator', 'wxnotify_producer', 'wxnotify_viewer', 'wxnotify_worker', 'wxnotify_console'])
              and c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v')
              and not has_table_privilege(r.oid, c.oid, t.privilege) and has_column_privilege(r.oid, c.oid, a.attnum, t.privilege)
            group by r.rolname, c.relname, t.privilege
            union all
            select r.rolname || ' may ' || lower(t.privilege) || ' sequence ' || c.relname
            from pg_roles r cross join pg_class c cross join unnest(array['SELECT', 'USAGE', 'UPDATE']) t (privilege)
            where r.rolname = any (array['wxnotify_operator', 'wxnotify_producer', 'wxnotify_viewer', 'wxnotify_worker', 'wxnotify_console'])
              and c.relnamespace = 'public'::regnamespace and c.relkind = 'S' and has_sequence_privilege(r.oid, c.oid, t.privilege)
            union all
            select r.rolname || ' may call ' || p.proname
            from pg_roles r cross join pg_proc p
            where r.rolname = any (array['wxnotify_operator', 'wxnotify_producer', 'wxnotify_viewer', 'wxnotify_worker', 'wxnotify_console'])
              and p.pronamespace = 'public'::regnamespace and has_function_privilege(r.oid, p.oid, 'execute')
            union all
            select r.rolname || ' may ' || lower(t.privilege) || ' in the schema'
            from pg_roles r cross join unnest(array['USAGE', 'CREATE']) t (privilege)
            where r.rolname = any (array['wxnotify_operator', 'wxnotify_producer', 'wxnotify_viewer', 'wxnotify_worker', 'wxnotify_console'])
              and has_schema_privilege(r.oid, 'public', t.privilege)
        ) rights order by line collate \"C\"",
    )
    .await;
    assert_recorded("rights.txt", &rights.join("\n"));
    let denied = |role: &str, what: &str| {
        !rights
            .iter()
            .any(|line| line.starts_with(role) && line.ends_with(what))
    };
    // What the record must never come to say, whoever records it anew.
    for role in ["wxnotify_producer", "wxnotify_operator", "wxnotify_viewer"] {
        for table in [
            "wechat_access_tokens",
            "notification_history",
            "notification_leases",
            "wechat_events",
        ] {
            assert!(denied(role, &format!(" {table}")), "{role}: {table}");
        }
        assert!(denied(role, " wxnotify_schema_texts"), "{role}");
    }
    assert!(denied("wxnotify_operator", " pending_notifications"));
    for role in ROLES {
        assert!(denied(role, "create in the schema"), "{role}");
    }
    let private = ["openid", "data", "page", "dedup_key", "login_code", "extra"];
    for line in rights
        .iter()
        .filter(|line| line.starts_with("wxnotify_viewer may "))
    {
        let columns: Vec<&str> = line
            .split(['(', ')', ',', ' '])
            .filter(|word| !word.is_empty())
            .collect();
        assert!(!columns.iter().any(|c| private.contains(c)), "{line}");
        assert!(
            line.contains(" select ")
                || line.contains(" call ")
                || line.ends_with("usage in the schema"),
            "{line}"
        );
    }
}

/// A view without a column that tells of a person may be granted whole; one that has such a column may not.
#[tokio::test]
async fn a_viewer_reads_no_receiver_and_no_message_from_any_view() {
    let queue = Queue::new().await;
    let row = json!({"openid": "oReceiver", "data": {"thing1": "words of a message"}, "page": "pages/secret", "dedup_key": "oReceiver:1"});
    let id = queue.enqueue(row).await;
    let doubtful = queue.enqueue(json!({"openid": "oDoubtful"})).await;
    let lease = queue.lease_and_start("worker/1").await;
    let outcomes = [Outcome::dead(id, 47003, "kept"), Outcome::doubt(doubtful)];
    queue.settle(&lease, &outcomes).await;
    let viewer = Login::of("wxnotify_viewer", queue.database()).await;

    let readable: Vec<(String, Option<String>)> = sqlx::query_as(
        "select c.relname::text, (select string_agg(quote_ident(a.attname), ', ') from pg_attribute a
            where a.attrelid = c.oid and a.attnum > 0 and has_column_privilege($1, c.oid, a.attnum, 'select'))
         from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'v' order by 1",
    )
    .bind(&viewer.name)
    .fetch_all(queue.pool())
    .await
    .unwrap();
    let mut seen = String::new();
    for (view, columns) in &readable {
        if let Some(columns) = columns {
            let rows = viewer
                .texts(&format!(
                    "select to_jsonb(r) from (select {columns} from {view}) r"
                ))
                .await;
            seen.push_str(&rows.join("\n"));
        }
    }
    seen.push_str(
        &viewer
            .texts(&format!(
                "select to_jsonb(e) from explain_notification({id}) e"
            ))
            .await
            .join("\n"),
    );
    assert!(readable.len() > 10 && seen.contains("47003"), "{seen}");
    for private in [
        "oReceiver",
        "oDoubtful",
        "words of a message",
        "pages/secret",
    ] {
        assert!(!seen.contains(private), "{private}: {seen}");
    }
    for query in [
        "select openid from notifications",
        "select * from notifications",
        "select data from notifications",
        "select openid from notification_dead_letters",
        "select openid from notification_credits",
        "select 1 from notifications where openid = 'oReceiver'",
        "select 1 from notifications order by data::text",
        "select * from own_notifications",
        "select * from pending_notifications",
        "select * from notification_history",
        "select * from wechat_access_tokens",
        "select * from operator_actions",
        "select cancel_notification(1)",
    ] {
        assert_eq!(viewer.refused(query).await, DENIED, "{query}");
    }
}

#[tokio::test]
async fn a_producer_sees_changes_and_cancels_its_own_rows_alone() {
    let queue = Queue::new().await;
    let shop = Login::of("wxnotify_producer", queue.database()).await;
    let school = Login::of("wxnotify_producer", queue.database()).await;
    let order = json!({"openid": "oShopper", "business_ref": "order-17"});
    let ordered = insert(&shop.pool, order).await.unwrap();
    let lesson = insert(
        &school.pool,
        json!({"openid": "oPupil", "business_ref": "lesson-4"}),
    )
    .await
    .unwrap();

    let own = shop.texts("select openid from pending_notifications").await;
    assert_eq!(own, ["oShopper"]);
    assert_eq!(
        shop.run("delete from pending_notifications where business_ref = 'lesson-4'")
            .await,
        0
    );
    assert_eq!(shop.run("update pending_notifications set send_at = now() + interval '1 h' where business_ref = 'lesson-4'").await, 0);
    assert_eq!(
        shop.run(
            "update pending_notifications set page = 'pages/a' where business_ref = 'order-17'"
        )
        .await,
        1
    );
    assert_eq!(
        shop.texts("select status from own_notifications").await,
        ["due"]
    );
    assert_eq!(school.run("delete from pending_notifications").await, 1);
    assert_eq!(queue.state(lesson).await, "cancelled");
    assert_eq!(queue.state(ordered).await, "pending");
    // The status of a final row, too, and only to its producer.
    assert_eq!(
        school.texts("select status from own_notifications").await,
        ["cancelled"]
    );
    assert_eq!(
        shop.texts("select id from own_notifications").await,
        [ordered.to_string()]
    );

    for forbidden in [
        "update pending_notifications set attempts = 0",
        "update pending_notifications set due = now()",
        "update pending_notifications set producer = session_user",
        "update pending_notifications set openid = 'oAnother'",
        "update pending_notifications set in_doubt_since = null",
        "truncate pending_notifications",
        "alter table pending_notifications disable row level security",
        "alter table pending_notifications disable trigger guard",
        "drop policy own_rows on pending_notifications",
        "select * from notifications",
        "select * from notification_history",
        "delete from notification_history",
        "select * from notification_leases",
        "select * from wechat_access_tokens",
        "select * from wechat_apps",
        "select wxnotify_rescue(1, 1)",
        "select wxnotify_finish('wx', '{1}', '{sent}', 'reply', null)",
        "select wxnotify_lease('wx', 1::smallint, 'w#1', '-infinity', 0, 0, 9, 30)",
        "select confirm_sent(1)",
        "select cancel_notification(1)",
        "select explain_notification(1)",
        "select resume_app('wx')",
        "select wxnotify_ingest_event('wx', '{}')",
        "select setval('notification_bell', 0)",
        "update wxnotify_schema set serves = 1",
        "create table public.mine ()",
        "set session authorization postgres",
        "set role wxnotify_worker",
    ] {
        assert_eq!(shop.refused(forbidden).await, DENIED, "{forbidden}");
    }
}

/// The flag lets wxnotify's functions pass the guard; any session may set it, which must not help.
#[tokio::test]
async fn the_guards_flag_helps_no_producer() {
    let queue = Queue::new().await;
    let shop = Login::of("wxnotify_producer", queue.database()).await;
    let flying = insert(&shop.pool, json!({})).await.unwrap();
    let lease = queue.lease_and_start("one").await;
    let doubtful = insert(&shop.pool, json!({"openid": "oDoubt"}))
        .await
        .unwrap();
    let second = queue.lease_and_start("one").await;
    queue.settle(&second, &[Outcome::doubt(doubtful)]).await;
    let free = insert(&shop.pool, json!({"openid": "oFree"}))
        .await
        .unwrap();
    let mut session = shop.pool.acquire().await.unwrap();
    let mut run = async |statement: &str| {
        sqlx::query(AssertSqlSafe(statement.to_owned()))
            .execute(&mut *session)
            .await
            .unwrap()
            .rows_affected()
    };

    run("set gin_fuzzy_search_limit = 20784").await;
    run("set enable_seqscan = off").await;
    for id in [flying, doubtful] {
        assert_eq!(
            run(&format!(
                "delete from pending_notifications where id = {id}"
            ))
            .await,
            0
        );
        assert_eq!(
            run(&format!(
                "update pending_notifications set send_at = null where id = {id}"
            ))
            .await,
            0
        );
    }
    assert_eq!(
        run(&format!(
            "delete from pending_notifications where id = {free}"
        ))
        .await,
        1
    );

    assert_eq!(queue.state(free).await, "cancelled");
    assert_eq!(queue.state(doubtful).await, "pending: doubt");
    queue.settle(&lease, &[Outcome::sent(flying)]).await;
    assert_eq!(queue.history(flying).await.status, "sent");
}

/// A credit is the mini-program's: one system records it, another arms it, and the row is then the other's.
#[tokio::test]
async fn a_credit_that_one_producer_recorded_another_may_arm_and_then_owns() {
    let queue = Queue::new().await;
    let accounts = Login::of("wxnotify_producer", queue.database()).await;
    let shop = Login::of("wxnotify_producer", queue.database()).await;
    let id = insert(&accounts.pool, json!({"held": true, "data": {}}))
        .await
        .unwrap();
    let later = in_secs(3600);

    let armed = shop
        .texts(&format!(
            "select arm('{APP}', 'user-1', 'template-1', '{{\"thing1\": \"x\"}}', '{later}')"
        ))
        .await;

    assert_eq!(armed, [id.to_string()]);
    assert_eq!(
        shop.texts("select status from own_notifications").await,
        ["scheduled"]
    );
    assert!(
        accounts
            .texts("select id from own_notifications")
            .await
            .is_empty()
    );
    assert_eq!(accounts.run("delete from pending_notifications").await, 0);
    assert_eq!(
        shop.run("update pending_notifications set send_at = null")
            .await,
        1
    );
    assert_eq!(shop.run("delete from pending_notifications").await, 1);
    assert_eq!(queue.history(id).await.status, "cancelled");
}

/// A function of the reader's that the planner would love to call first sees nothing that the filter would take away.
#[tokio::test]
async fn a_curious_function_sees_only_its_own_rows() {
    let queue = Queue::new().await;
    let (shop, school) = (
        Login::of("wxnotify_producer", queue.database()).await,
        Login::of("wxnotify_producer", queue.database()).await,
    );
    insert(&shop.pool, json!({"openid": "oMine"}))
        .await
        .unwrap();
    insert(&school.pool, json!({"openid": "oTheirs"}))
        .await
        .unwrap();
    let mut session = shop.pool.acquire().await.unwrap();
    sqlx::raw_sql(
        "create temp table seen (openid text);
         create function pg_temp.peep(p text) returns boolean language plpgsql cost 0.0000001 as
             $$ begin insert into seen values (p); return true; end $$;
         select count(*) from own_notifications where pg_temp.peep(openid);
         select count(*) from pending_notifications where pg_temp.peep(openid);
         update pending_notifications set page = 'pages/a' where pg_temp.peep(openid)",
    )
    .execute(&mut *session)
    .await
    .unwrap();
    let seen: Vec<String> = sqlx::query_scalar("select distinct openid from seen")
        .fetch_all(&mut *session)
        .await
        .unwrap();
    assert_eq!(seen, ["oMine"]);
}

/// Row security must not put a filter into the kernel's statements, nor change their plans.
#[tokio::test]
async fn row_security_costs_the_worker_and_the_owner_nothing() {
    let queue = Queue::new().await;
    let worker = Login::of("wxnotify_worker", queue.database()).await;
    let shop = Login::of("wxnotify_producer", queue.database()).await;
    let query = "explain (costs off) select id from pending_notifications
         where appid = 'a' and lane = 1 and due <= now() and (due, id + 0) > ('-infinity', 0) order by due, id + 0 limit 9 for update skip locked";
    let plan = async |pool: &PgPool| {
        let mut session = pool.acquire().await.unwrap();
        sqlx::query("set enable_seqscan = off")
            .execute(&mut *session)
            .await
            .unwrap();
        let lines: Vec<String> = sqlx::query_scalar(query)
            .fetch_all(&mut *session)
            .await
            .unwrap();
        lines.join("\n")
    };
    let owners = plan(queue.pool()).await;
    assert!(
        owners.contains("using pick") && !owners.contains("producer"),
        "{owners}"
    );
    assert_eq!(plan(&worker.pool).await, owners);
    assert!(plan(&shop.pool).await.contains("producer = SESSION_USER"));
}

async fn command(pool: &PgPool, words: &str) -> Value {
    let line =
        Line::try_parse_from(std::iter::once("wxnotify").chain(words.split_whitespace())).unwrap();
    execute(line.command, &Store::new(pool.clone()))
        .await
        .unwrap_or_else(|error| panic!("wxnotify {words}: {error:#}"))
        .document()
        .clone()
}

#[tokio::test]
async fn an_operator_uses_every_command_and_touches_no_table() {
    let queue = Queue::new().await;
    let operator = Login::of("wxnotify_operator", queue.database()).await;
    let dead = queue
        .enqueue(json!({"openid": "oDead", "business_ref": "order-1"}))
        .await;
    let (one, two, three) = (
        queue
            .enqueue(json!({"openid": "oOne", "on_doubt": "hold"}))
            .await,
        queue
            .enqueue(json!({"openid": "oTwo", "on_doubt": "hold"}))
            .await,
        queue
            .enqueue(json!({"openid": "oThree", "on_doubt": "hold"}))
            .await,
    );
    let lease = queue.lease_and_start("worker/1").await;
    let outcomes = [
        Outcome::dead(dead, 47003, "kept"),
        Outcome::doubt(one),
        Outcome::doubt(two),
        Outcome::doubt(three),
    ];
    queue.settle(&lease, &outcomes).await;
    let waiting = queue
        .enqueue(json!({"openid": "oWaiting", "business_ref": "order-2"}))
        .await;
    let cancelled = queue
        .enqueue(json!({"openid": "oCancelled", "business_ref": "order-3"}))
        .await;

    for words in [
        "status".to_owned(),
        format!("explain {dead}"),
        "dead --errcode 47003".to_owned(),
        "doubt list".to_owned(),
        "app add wx-another --name Another --rate 5".to_owned(),
        "app add wx-default --default".to_owned(),
        "app list".to_owned(),
        "app pause wx-another".to_owned(),
        "app resume wx-another".to_owned(),
        format!("template pause {APP} template-1"),
        format!("template resume {APP} template-1"),
        "template list".to_owned(),
        format!("template check {APP} template-1 off"),
        "template sync".to_owned(),
        "quota --known".to_owned(),
        format!("credits {APP} oDead"),
        "token status".to_owned(),
        format!("doubt confirm-sent --id {one}"),
        format!("doubt confirm-not-sent --id {two}"),
        format!("doubt retry-anyway --id {three}"),
        format!("redrive --id {dead}"),
        format!("reschedule --id {waiting} --send-at 2199-01-01T00:00:00Z"),
        "cancel --business-ref order-3".to_owned(),
    ] {
        command(&operator.pool, &words).await;
    }
    assert_eq!(queue.history(one).await.status, "sent");
    assert_eq!(queue.history(cancelled).await.settled_by, "operator");
    assert_eq!(queue.state(dead).await, "dead");
    let actors: Vec<String> = sqlx::query_scalar("select distinct actor from operator_actions")
        .fetch_all(queue.pool())
        .await
        .unwrap();
    assert!(
        actors.iter().all(|actor| actor.starts_with(&operator.name)),
        "{actors:?}"
    );
    operator
        .run("update wechat_errcodes set retries_max = 3 where errcode = -1")
        .await;

    for forbidden in [
        "select * from pending_notifications",
        "insert into pending_notifications (appid, openid, template_id, data) values ('wx', 'o', 't', '{\"thing1\": \"x\"}')",
        "update pending_notifications set send_at = null",
        "delete from pending_notifications",
        "select * from notification_history",
        "delete from notification_history",
        "select * from notification_leases",
        "delete from notification_leases",
        "select * from wechat_access_tokens",
        "select * from wechat_events",
        "insert into operator_actions (action) values ('nothing happened')",
        "delete from operator_actions",
        "update wechat_apps set paused_until = null",
        "select wxnotify_finish('wx', '{1}', '{sent}', 'reply', null)",
        "select wxnotify_claim_token('wx', 'w#1', null, 60, 30)",
        "select wxnotify_drop_old_partition(1)",
        "update wxnotify_schema set serves = 1",
    ] {
        assert_eq!(operator.refused(forbidden).await, DENIED, "{forbidden}");
    }
}

/// What stands in the caller's temporary schema or search_path must not stand in for ours: verbs run with the owner's rights.
#[tokio::test]
async fn nothing_of_the_callers_stands_in_for_what_a_verb_uses() {
    let queue = Queue::new().await;
    let operator = Login::of("wxnotify_operator", queue.database()).await;
    let id = queue.enqueue(json!({})).await;
    sqlx::raw_sql("create schema theirs; grant all on schema theirs to public")
        .execute(queue.pool())
        .await
        .unwrap();
    let mut session = operator.pool.acquire().await.unwrap();
    sqlx::raw_sql(
        "create temp table pending_notifications (id bigint, appid text, openid text, in_doubt_since timestamptz, last_lease bigint);
         create temp table notification_leases (lease_id bigint, ids bigint[]);
         create temp table operator_actions (actor text, action text, filter jsonb, rows_changed bigint, note text);
         create function theirs.wxnotify_lock_rows(bigint[]) returns table (id bigint, appid text, state text)
             language sql as 'select 1, current_user::text, current_user::text';
         create function theirs.cardinality(bigint[]) returns int language plpgsql
             as $$ begin raise exception 'called as %', current_user; end $$;
         set search_path = theirs, public",
    )
    .execute(&mut *session)
    .await
    .unwrap();
    let result: String = sqlx::query_scalar("select public.cancel_notification($1)")
        .bind(id)
        .fetch_one(&mut *session)
        .await
        .unwrap();
    assert_eq!(result, "cancelled");
    assert_eq!(queue.history(id).await.status, "cancelled");
    let traces: i64 = sqlx::query_scalar("select count(*) from public.operator_actions")
        .fetch_one(queue.pool())
        .await
        .unwrap();
    assert_eq!(traces, 1, "the action is on record where it belongs");
}

#[tokio::test]
async fn every_function_fixes_its_search_path_and_public_may_call_none() {
    let database = TestDatabase::new().await;
    let loose = lines(
        database.pool(),
        "select p.oid::regprocedure::text from pg_proc p
         where p.pronamespace = 'public'::regnamespace
           and not coalesce('search_path=public, pg_temp' = any (p.proconfig), false)
           -- a body that was bound when it was made
           and p.prosqlbody is null
         order by 1",
    )
    .await;
    assert!(loose.is_empty(), "without a fixed search_path: {loose:#?}");
    let definers = lines(
        database.pool(),
        "select p.proname::text from pg_proc p where p.pronamespace = 'public'::regnamespace and p.prosecdef
           and (p.proconfig is null or has_function_privilege('public', p.oid, 'execute')) order by 1",
    )
    .await;
    assert!(definers.is_empty(), "{definers:#?}");
    // The guard's flag is a setting of the session, and a definer would inherit it from whoever calls.
    let inheriting = lines(
        database.pool(),
        "select p.proname::text from pg_proc p where p.pronamespace = 'public'::regnamespace and p.prosecdef
           and p.prosrc ~* '(update|insert into|delete from)\\s+pending_notifications'
           and not exists (select from unnest(p.proconfig) c where c like 'gin\\_fuzzy\\_search\\_limit=%') order by 1",
    )
    .await;
    assert!(inheriting.is_empty(), "{inheriting:#?}");
    let nobodys = lines(
        database.pool(),
        "select p.proname::text from pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname not like 'wxnotify\\_%'
           and not has_function_privilege('wxnotify_operator', p.oid, 'execute')
           and not has_function_privilege('wxnotify_producer', p.oid, 'execute')
           -- the owner's
           and p.proname not in ('confine_producer', 'release_producer') order by 1",
    )
    .await;
    assert!(
        nobodys.is_empty(),
        "granted to nobody, in their files in sql/schema: {nobodys:#?}"
    );
}

#[tokio::test]
async fn a_worker_drops_what_retention_ended_and_owns_nothing() {
    let queue = Queue::new().await;
    let worker = Login::of("wxnotify_worker", queue.database()).await;
    sqlx::raw_sql(
        "create table notification_history_2020_01 (like notification_history including defaults including constraints);
         alter table notification_history attach partition notification_history_2020_01
             for values from ('2020-01-01 00:00:00+00') to ('2020-02-01 00:00:00+00');
         create table notification_attempts_2020_02 (like notification_attempts including defaults including constraints);
         alter table notification_attempts attach partition notification_attempts_2020_02
             for values from ('2020-02-01 00:00:00+00') to ('2020-03-01 00:00:00+00')",
    )
    .execute(queue.pool())
    .await
    .unwrap();
    let store = Store::new(worker.pool.clone());
    let mut report = queue.session().await;
    sqlx::raw_sql("begin; select count(*) from notification_history")
        .execute(&mut report)
        .await
        .unwrap();

    let error = store.drop_old_partitions(12).await.unwrap_err();
    assert_eq!(
        error.sqlstate().as_deref(),
        Some("55P03"),
        "a reader is in the way: {error}"
    );
    sqlx::raw_sql("commit").execute(&mut report).await.unwrap();
    let dropped = store.drop_old_partitions(12).await.unwrap();

    assert_eq!(
        dropped,
        [
            "notification_history_2020_01",
            "notification_attempts_2020_02"
        ]
    );
    assert!(store.drop_old_partitions(12).await.unwrap().is_empty());
    assert!(
        store.drop_old_partitions(0).await.is_err(),
        "this month is never dropped"
    );
    assert_eq!(store.make_partitions().await.unwrap(), 0);
    for forbidden in [
        "drop table notification_history",
        "truncate notification_history",
        "delete from notification_history",
        "alter table pending_notifications add column mine text",
        "create table public.mine ()",
        "update wechat_errcodes set disposition = 'dead'",
        "insert into wechat_apps (appid) values ('wx-mine')",
        "select * from operator_actions",
        "select cancel_notification(1)",
        "select confirm_sent(1)",
        "select wxnotify_end_doubts('{1}', 'sent')",
        "update wxnotify_schema set serves = 1",
    ] {
        assert_eq!(worker.refused(forbidden).await, DENIED, "{forbidden}");
    }
    sqlx::raw_sql(
        "drop table if exists notification_history_2020_01, notification_attempts_2020_02",
    )
    .execute(queue.pool())
    .await
    .unwrap();
}

async fn migrate(url: &str) -> Output {
    program("migrate", url).await
}

async fn program(name: &'static str, url: &str) -> Output {
    let mut command = wxnotify();
    command.arg(name).env("DATABASE_URL", url);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Roles belong to the whole server: a server of its own, in which there are none at first.
#[tokio::test]
async fn roles_are_made_by_whoever_may_and_granted_by_the_next_migration() {
    let options = Options {
        trust: true,
        ..Options::default()
    };
    let server = ThrowawayPostgres::start(options).await.unwrap();
    let mut administrator = PgConnection::connect(server.url()).await.unwrap();
    let run = async |administrator: &mut PgConnection, statements: &str| {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
            .execute(administrator)
            .await
            .unwrap();
    };

    let mut template = PgConnection::connect(&server.url_for("template1"))
        .await
        .unwrap();
    run(&mut template, CLOSED_SCHEMA).await;
    template.close().await.unwrap();

    // Several databases of one server at once.
    let mut urls = Vec::new();
    for name in ["one", "two", "three"] {
        urls.push(server.create_database(name).await.unwrap());
    }
    let outputs = futures::future::join_all(urls.iter().map(|url| migrate(url))).await;
    for output in &outputs {
        assert!(
            output.status.success() && !said(output).contains("next:"),
            "{}",
            said(output)
        );
    }
    let roles = "select count(*) from pg_roles where rolname in ('wxnotify_operator', 'wxnotify_producer', 'wxnotify_viewer', 'wxnotify_worker', 'wxnotify_console')";
    assert_eq!(
        sqlx::query_scalar::<_, i64>(roles)
            .fetch_one(&mut administrator)
            .await
            .unwrap(),
        5
    );
    for name in ["one", "two", "three"] {
        run(
            &mut administrator,
            &format!("drop database {name} with (force)"),
        )
        .await;
    }
    for role in ROLES {
        run(&mut administrator, &format!("drop role {role}")).await;
    }

    // Where the owner may not create roles, it is told so, and everything else works.
    let create_owner = format!("create role owner_of_four login password '{PASSWORD}'");
    run(&mut administrator, &create_owner).await;
    run(
        &mut administrator,
        "create database four owner owner_of_four",
    )
    .await;
    let mut database_four = PgConnection::connect(&server.url_for("four"))
        .await
        .unwrap();
    run(
        &mut database_four,
        "grant create on schema public to owner_of_four",
    )
    .await;
    let mut url = url::Url::parse(&server.url_for("four")).unwrap();
    url.set_username("owner_of_four").unwrap();
    url.set_password(Some(PASSWORD)).unwrap();
    let first = migrate(url.as_str()).await;
    assert!(first.status.success(), "{}", said(&first));
    assert!(
        said(&first).contains("deploy/roles.sql"),
        "{}",
        said(&first)
    );
    assert!(
        said(&first).contains("wxnotify_producer"),
        "{}",
        said(&first)
    );
    for _ in 0..2 {
        run(
            &mut administrator,
            include_str!("../../../deploy/roles.sql"),
        )
        .await;
    }
    let second = migrate(url.as_str()).await;
    assert!(
        second.status.success() && !said(&second).contains("next:"),
        "{}",
        said(&second)
    );
    let mut owner = PgConnection::connect(url.as_str()).await.unwrap();
    let granted = "select has_table_privilege('wxnotify_worker', 'notification_leases', 'insert')
        and has_function_privilege('wxnotify_operator', 'cancel_notification(bigint, text)', 'execute')
        and has_column_privilege('wxnotify_producer', 'pending_notifications', 'send_at', 'update')
        and has_table_privilege('wxnotify_viewer', 'notification_backlog', 'select')
        and exists (select from pg_policy where polname = 'worker')";
    assert!(
        sqlx::query_scalar::<_, bool>(granted)
            .fetch_one(&mut owner)
            .await
            .unwrap()
    );
    server.stop().await.unwrap();
}

/// A schema in which everybody may create is an invitation; in Postgres 14 `public` is one, and nobody but the server's
/// administrator can close it. Then the owner of the tables must still be able to replace functions.
#[tokio::test]
async fn what_migrate_and_doctor_say_of_an_open_schema_closes_it_and_the_next_migration_works() {
    let database = TestDatabase::empty().await;
    let mut administrator = database.connect().await;
    let owner = Login::of("pg_monitor", &database).await;
    let mut url = url::Url::parse(database.url()).unwrap();
    url.set_username(&owner.name).unwrap();
    url.set_password(Some(PASSWORD)).unwrap();
    let run = async |administrator: &mut PgConnection, statements: &str| {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
            .execute(administrator)
            .await
            .unwrap();
    };
    run(
        &mut administrator,
        "alter schema public owner to current_user; grant create on schema public to public",
    )
    .await;
    let name: String = sqlx::query_scalar("select quote_ident(current_user)")
        .fetch_one(&mut administrator)
        .await
        .unwrap();
    let grant = format!("GRANT CREATE ON SCHEMA public TO {}", owner.name);
    let revoke = "REVOKE CREATE ON SCHEMA public FROM PUBLIC";

    let first = program("migrate", url.as_str()).await;
    assert!(first.status.success(), "{}", said(&first));
    let doctor = program("doctor", url.as_str()).await;
    for (output, by) in [
        (&first, format!("as {name}, its owner, {grant}; {revoke}")),
        (
            &doctor,
            format!("as {name}, the owner of the schema: {grant}; {revoke}"),
        ),
    ] {
        // Where a line ends is the terminal's matter.
        let words = said(output)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert!(words.contains(&by), "{by}\n{words}");
    }

    // Half of it is worse than nothing, and says so.
    run(&mut administrator, revoke).await;
    let of_ring = "update wxnotify_schema_texts set hash = 'older' where name = 'wxnotify_ring'";
    run(&mut administrator, of_ring).await;
    let half = program("migrate", url.as_str()).await;
    assert_eq!(half.status.code(), Some(69), "{}", said(&half));
    assert!(
        said(&half).contains("nothing was changed") && said(&half).contains(&grant),
        "{}",
        said(&half)
    );

    run(&mut administrator, &grant).await;
    let last = program("migrate", url.as_str()).await;
    assert!(
        last.status.success() && said(&last).contains("function × 1"),
        "{}",
        said(&last)
    );
    assert!(!said(&last).contains("next:"), "{}", said(&last));
    let doctor = program("doctor", url.as_str()).await;
    assert!(!said(&doctor).contains("REVOKE"), "{}", said(&doctor));
}

/// Objects may live in any schema; the roles reach them there.
#[tokio::test]
async fn the_roles_work_in_a_schema_of_another_name() {
    let database = TestDatabase::empty().await;
    let mut owner = database.connect().await;
    sqlx::raw_sql("create schema \"Notify\"; set search_path = \"Notify\"")
        .execute(&mut owner)
        .await
        .unwrap();
    make_schema(&mut owner).await;
    let shop = Login::of("wxnotify_producer", &database).await;
    let support = Login::of("wxnotify_operator", &database).await;
    let statement = "insert into \"Notify\".pending_notifications (appid, openid, template_id, data) values ('wx', 'o', 't', '{\"thing1\": \"x\"}')";
    assert_eq!(shop.run(statement).await, 1);
    assert_eq!(
        shop.texts("select status from \"Notify\".own_notifications")
            .await,
        ["paused"]
    );
    let cancelled = support
        .texts("select \"Notify\".cancel_notification(1)")
        .await;
    assert_eq!(cancelled, ["cancelled"]);
}
