//! Attempts: statements made from the catalogue, tried by each role for real. A new table, column, function or sequence is tried
//! without anyone remembering it, and what a role got that was not on record fails here.
//!
//! EXPLAIN is refused as its statement would be, and changes nothing.

use std::fmt::Write;

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::Login;
use crate::harness::{TestDatabase, assert_recorded};
use crate::kernel::{APP, Outcome, Queue};

const ROLES: [&str; 5] = [
    "wxnotify_producer",
    "wxnotify_operator",
    "wxnotify_viewer",
    "wxnotify_worker",
    // A login that is a member of nothing: what PUBLIC may.
    "",
];

/// Statements for every relation, column, sequence and function of ours, each after what it is an attempt at.
const ATTEMPTS: &str = "
    with relations as (
        select c.oid, c.relname, c.relkind, quote_ident(c.relname) as name from pg_class c
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition),
    columns as (
        select r.relname, r.name, quote_ident(a.attname) as col, a.attname,
               r.relkind <> 'v' and a.attidentity = 'a' as is_always
        from relations r join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped)
    select 'select ' || relname || '.' || attname, format('explain select %s from %s', col, name) from columns
    union all
    select 'insert ' || relname || '.' || attname, format('explain insert into %s (%s) %s select %2$s from %1$s where false', name, col,
           case when is_always then 'overriding system value' else '' end)
    from columns where relname in (select relname from relations where relkind <> 'v')
    union all
    select 'update ' || relname || '.' || attname, format('explain update %s set %s = %s', name, col, case when is_always then 'default' else 'null' end)
    from columns where relname in (select relname from relations where relkind <> 'v')
    union all
    select 'delete ' || relname, format('explain delete from %s', name) from relations where relkind <> 'v'
    union all
    select 'merge ' || relname, format('explain merge into %s t using (select 1) s on false when matched then delete', name) from relations
    where relkind = 'r' and current_setting('server_version_num')::int >= 150000
    union all
    select w || ' ' || relname, format('%s %s', s, name)
    from relations, (values ('truncate', 'truncate'), ('analyze', 'vacuum'), ('lock', 'lock table')) v (w, s) where relkind <> 'v' and w <> 'analyze'
    union all
    select 'copy ' || relname, format('copy (select * from %s limit 0) to stdout', name) from relations
    union all
    select 'disable triggers of ' || relname, format('alter table %s disable trigger user', name) from relations where relkind <> 'v'
    union all
    select w || ' ' || c.relname, format(s, c.relname)
    from pg_class c, (values ('nextval', 'select nextval(%L)'), ('setval', 'select setval(%L, 1)'), ('read', 'select * from %s')) v (w, s)
    where c.relnamespace = 'public'::regnamespace and c.relkind = 'S'
    union all
    select 'call ' || p.proname, format('explain select %I(%s)', p.proname,
           (select string_agg('null::' || format_type(t, null), ', ' order by n) from unnest(p.proargtypes) with ordinality a (t, n)))
    from pg_proc p where p.pronamespace = 'public'::regnamespace and p.prorettype <> 'trigger'::regtype and not p.proretset
    union all
    select 'call ' || p.proname, format('explain select * from %I(%s)', p.proname,
           (select string_agg('null::' || format_type(t, null), ', ' order by n) from unnest(p.proargtypes) with ordinality a (t, n)))
    from pg_proc p where p.pronamespace = 'public'::regnamespace and p.proretset
    order by 1";

#[tokio::test]
async fn each_role_gets_from_the_database_what_is_on_record_and_nothing_else() {
    let database = TestDatabase::new().await;
    let attempts: Vec<(String, String)> = sqlx::query_as(ATTEMPTS)
        .fetch_all(database.pool())
        .await
        .unwrap();
    assert!(attempts.len() > 900, "{} attempts", attempts.len());
    let mut allowed = String::new();
    for role in ROLES {
        let login = Login::of(role, &database).await;
        let mut session = login.pool.acquire().await.unwrap();
        for (what, statement) in &attempts {
            let mut transaction = session.begin().await.unwrap();
            let tried = sqlx::raw_sql(AssertSqlSafe(statement.as_str()))
                .execute(&mut *transaction)
                .await;
            transaction.rollback().await.unwrap();
            let is_refused = match &tried {
                Ok(_) => false,
                // Insufficient privilege; anything else is a mistake of the attempt, which counts as allowed.
                Err(error) => error
                    .as_database_error()
                    .is_some_and(|error| error.code().as_deref() == Some("42501")),
            };
            if !is_refused {
                let role = if role.is_empty() { "public" } else { role };
                writeln!(allowed, "{role}: {what}").unwrap();
            }
        }
    }
    println!(
        "{} (role × attempt) pairs were tried",
        ROLES.len() * attempts.len()
    );
    assert!(!allowed.contains("public: "), "{allowed}");
    assert_recorded("attempts.txt", allowed.trim_end());
}

/// A schema of the caller's own, first in its path, with operators and functions under the names that the rules use.
const NAMES_IN_FRONT: &str = "
    create schema hers;
    create function hers.yes(timestamptz, timestamptz) returns bool language sql immutable as 'select true';
    create operator hers.<= (leftarg = timestamptz, rightarg = timestamptz, function = hers.yes);
    create operator hers.>= (leftarg = timestamptz, rightarg = timestamptz, function = hers.yes);
    create function hers.yes(name, name) returns bool language sql immutable as 'select true';
    create operator hers.= (leftarg = name, rightarg = name, function = hers.yes);
    create function hers.no(int2, int4) returns bool language sql immutable as 'select false';
    create operator hers.<> (leftarg = int2, rightarg = int4, function = hers.no);
    create function hers.yes(text, text) returns bool language sql immutable as 'select true';
    create operator hers.~~ (leftarg = text, rightarg = text, function = hers.yes);
    create operator hers.~ (leftarg = text, rightarg = text, function = hers.yes);
    create function hers.no(text, text) returns bool language sql immutable as 'select false';
    create operator hers.!~ (leftarg = text, rightarg = text, function = hers.yes);
    create operator hers.<> (leftarg = text, rightarg = text, function = hers.no);
    create function hers.clock_timestamp() returns timestamptz language sql as $$ select timestamptz '-infinity' $$;
    create function hers.now() returns timestamptz language sql as $$ select timestamptz '-infinity' $$;
    create function hers.jsonb_each(jsonb, out key text, out value jsonb) returns setof record language sql as 'select null::text, null::jsonb where false';
    create function hers.pg_column_size(\"any\") returns int language internal as 'pg_column_size';
    create function hers.length(text) returns int language sql as 'select 1';
    create function hers.octet_length(text) returns int language sql as 'select 1';
    create function hers.wxnotify_data_fault(jsonb) returns text language sql as 'select null::text';
    create domain pg_temp.text as pg_catalog.text;
    create temp table wechat_templates (appid pg_catalog.text, template_id pg_catalog.text);
    set search_path = hers, pg_catalog, public";

const BAD_ROWS: [&str; 12] = [
    r#"{"send_at": "infinity"}"#,
    r#"{"created_at": "infinity"}"#,
    r#"{"created_at": "-infinity"}"#,
    r#"{"expire_at": "1970-01-01"}"#,
    r#"{"lane": 7}"#,
    r#"{"attempts_max": 0}"#,
    r#"{"data": "text"}"#,
    r#"{"data": {"thing1": "a text of more than twenty characters"}}"#,
    r#"{"data": {}}"#,
    r#"{"page": "/pages/a"}"#,
    r#"{"on_doubt": "maybe"}"#,
    r#"{"appid": "with blanks"}"#,
];

/// Every rule holds whatever its caller's names mean.
#[tokio::test]
async fn names_that_a_producer_puts_in_front_of_ours_turn_no_rule_off() {
    let queue = Queue::new().await;
    let shop = Login::of("wxnotify_producer", queue.database()).await;
    let creation = format!(
        "do $$ begin execute format('grant create on database %I to {}', current_database()); end $$",
        shop.name
    );
    sqlx::raw_sql(AssertSqlSafe(creation))
        .execute(queue.pool())
        .await
        .unwrap();
    let mut session = shop.pool.acquire().await.unwrap();
    // pg_column_size of hers takes an internal function, which only a superuser may make.
    let names = NAMES_IN_FRONT
        .lines()
        .filter(|line| !line.contains("language internal"))
        .collect::<Vec<_>>()
        .join("\n");
    sqlx::raw_sql(AssertSqlSafe(names))
        .execute(&mut *session)
        .await
        .unwrap();
    for bad in BAD_ROWS {
        let error = producer_insert(&mut session, bad).await.unwrap_err();
        let code = error.as_database_error().unwrap().code().unwrap();
        assert_eq!(code, "23514", "{bad}: {error}");
    }
    let id = producer_insert(&mut session, "{}").await.unwrap();
    let row: (bool, String) = sqlx::query_as("select due between now() - interval '1 minute' and now() + interval '1 minute', producer::text from pending_notifications where id = $1")
        .bind(id)
        .fetch_one(queue.pool())
        .await
        .unwrap();
    assert_eq!(row, (true, shop.name.clone()));
    assert_eq!(queue.lease("w#1").await.unwrap().ids, [id]);
}

async fn producer_insert(session: &mut PgConnection, columns: &str) -> sqlx::Result<i64> {
    let mut row: serde_json::Value = serde_json::from_str(columns).unwrap();
    for (column, value) in [
        ("appid", json!(APP)),
        ("openid", json!("user-1")),
        ("template_id", json!("template-1")),
        ("data", json!({"thing1": "x"})),
    ] {
        row.as_object_mut().unwrap().entry(column).or_insert(value);
    }
    let names: Vec<_> = row.as_object().unwrap().keys().cloned().collect();
    let names = names.join(", ");
    sqlx::query_scalar(AssertSqlSafe(format!(
        "insert into public.pending_notifications ({names}) select {names} from pg_catalog.jsonb_populate_record(null::public.pending_notifications, $1) returning id"
    )))
    .bind(&row)
    .fetch_one(session)
    .await
}

/// An id of ours, or of the history, would stand in another's way or steal its place.
#[tokio::test]
async fn a_producer_names_no_column_of_ours() {
    let queue = Queue::new().await;
    let shop = Login::of("wxnotify_producer", queue.database()).await;
    for (column, value) in [
        ("id", "1000"),
        ("due", "now()"),
        ("waiting_for", "'retry'"),
        ("attempts", "5"),
        ("rescues", "1"),
        ("in_doubt_since", "now()"),
        ("last_lease", "1"),
        ("last_errcode", "1"),
        ("last_errmsg", "'x'"),
        ("last_attempt_at", "now()"),
        ("producer", "'another'"),
        ("login_at", "now()"),
        ("login_until", "now()"),
        ("login_claims", "1"),
        ("login_unclear", "1"),
    ] {
        let statement = format!(
            "insert into pending_notifications (appid, openid, template_id, data, {column}) overriding system value
             values ('{APP}', 'o', 't', '{{\"thing1\": \"x\"}}', {value})"
        );
        assert_eq!(shop.refused(&statement).await, "42501", "{column}");
    }
    for statement in [
        "insert into pending_notifications overriding system value select * from pending_notifications",
        "insert into pending_notifications default values",
    ] {
        assert_ne!(shop.refused(statement).await, "", "{statement}");
    }
}

/// As logins had it before: the policy refuses what the privilege no longer does.
#[tokio::test]
async fn a_login_with_a_right_to_the_whole_table_still_writes_no_history_of_its_own() {
    let queue = Queue::new().await;
    let old = Login::of("wxnotify_producer", queue.database()).await;
    let grant = format!("grant insert on pending_notifications to {}", old.name);
    sqlx::raw_sql(AssertSqlSafe(grant))
        .execute(queue.pool())
        .await
        .unwrap();
    for (column, value) in [
        ("attempts", "5"),
        ("waiting_for", "'retry'"),
        ("producer", "'another'"),
        ("last_lease", "1"),
    ] {
        let statement = format!(
            "insert into pending_notifications (appid, openid, template_id, data, {column}) values ('{APP}', 'o', 't', '{{\"thing1\": \"x\"}}', {value})"
        );
        assert_eq!(old.refused(&statement).await, "42501", "{column}");
    }
}

/// The id and key of another's sent row, held and then deleted, freed the key: its duplicate went out again.
#[tokio::test]
async fn a_producer_cannot_free_anothers_dedup_key() {
    let queue = Queue::new().await;
    let shop = Login::of("wxnotify_producer", queue.database()).await;
    let sent = queue.enqueue(json!({ "dedup_key": "once" })).await;
    let lease = queue.lease_and_start("w#1").await;
    queue.settle(&lease, &[Outcome::sent(sent)]).await;
    let theft = format!(
        "insert into pending_notifications (id, appid, openid, template_id, dedup_key, held) overriding system value values ({sent}, '{APP}', 'o', 't', 'once', true)"
    );
    assert_eq!(shop.refused(&theft).await, "42501");
    let same = queue.enqueue(json!({ "dedup_key": "once" })).await;
    assert!(queue.lease("w#1").await.is_none());
    assert_eq!(queue.history(same).await.status, "duplicate");
}

/// A definer inherits the session's settings: with the guard's flag in them, arm skipped the guard.
#[tokio::test]
async fn the_guards_flag_of_a_caller_acts_in_no_verb() {
    let queue = Queue::new().await;
    let shop = Login::of("wxnotify_producer", queue.database()).await;
    let credit = queue.enqueue(json!({ "held": true, "openid": "o" })).await;
    let mut session = shop.pool.acquire().await.unwrap();
    sqlx::raw_sql("set gin_fuzzy_search_limit = 20784")
        .execute(&mut *session)
        .await
        .unwrap();
    let armed: Option<i64> =
        sqlx::query_scalar("select arm($1, 'o', 'template-1', '{\"thing1\": \"mine\"}')")
            .bind(APP)
            .fetch_one(&mut *session)
            .await
            .unwrap();
    assert_eq!(armed, Some(credit));
    let producer: String =
        sqlx::query_scalar("select producer::text from pending_notifications where id = $1")
            .bind(credit)
            .fetch_one(queue.pool())
            .await
            .unwrap();
    assert_eq!(producer, shop.name);
    assert_eq!(queue.lease("w#1").await.unwrap().ids, [credit]);

    let operator = Login::of("wxnotify_operator", queue.database()).await;
    let later = queue.enqueue(json!({ "openid": "another" })).await;
    let mut session = operator.pool.acquire().await.unwrap();
    sqlx::raw_sql("set gin_fuzzy_search_limit = 20784")
        .execute(&mut *session)
        .await
        .unwrap();
    let result: String =
        sqlx::query_scalar("select reschedule_notification($1, now() + interval '1 day')")
            .bind(later)
            .fetch_one(&mut *session)
            .await
            .unwrap();
    assert_eq!(result, "rescheduled");
    assert!(queue.lease("w#1").await.is_none(), "it went out at once");
}

#[tokio::test]
async fn a_confined_login_inserts_for_its_mini_programs_alone() {
    let queue = Queue::new().await;
    let shop = Login::of("wxnotify_producer", queue.database()).await;
    let school = Login::of("wxnotify_producer", queue.database()).await;
    let row = |appid: &str| {
        format!(
            "insert into pending_notifications (appid, openid, template_id, data) values ('{appid}', 'o', 't', '{{\"thing1\": \"x\"}}')"
        )
    };
    let policies = "select count(*) from pg_policy where polname = 'confined'";
    assert_eq!(shop.run(&row("wx-any")).await, 1);
    let confine = format!("select confine_producer('{}', array['wx-shop'])", shop.name);
    sqlx::raw_sql(AssertSqlSafe(confine.clone()))
        .execute(queue.pool())
        .await
        .unwrap();
    assert_eq!(shop.run(&row("wx-shop")).await, 1);
    assert_eq!(shop.refused(&row("wx-school")).await, "42501");
    assert_eq!(school.run(&row("wx-school")).await, 1);
    // Another's credit of another mini-program is out of reach, too.
    queue
        .enqueue(json!({"appid": "wx-school", "held": true, "openid": "oB", "template_id": "tB"}))
        .await;
    let armed = "select arm('wx-school', 'oB', 'tB', '{\"thing1\": \"text of another\"}')";
    assert_eq!(shop.refused(armed).await, "42501");
    // A group confines nobody, since nobody logs in as it.
    let group = "select confine_producer('wxnotify_producer', array['wx-shop'])";
    let error = sqlx::raw_sql(group)
        .execute(queue.pool())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("it cannot log in"), "{error}");
    // It is the owner's to say, and a name that does not exist is a mistake.
    for login in [&shop, &school] {
        assert_eq!(login.refused(&confine).await, "42501");
        assert_eq!(
            login.refused("delete from notification_producers").await,
            "42501"
        );
    }
    let mistaken = sqlx::raw_sql("select confine_producer('no such login', array['wx-shop'])")
        .execute(queue.pool())
        .await
        .unwrap_err();
    assert!(
        mistaken.to_string().contains("there is no such role"),
        "{mistaken}"
    );
    let release = format!("select release_producer('{}')", shop.name);
    sqlx::raw_sql(AssertSqlSafe(release))
        .execute(queue.pool())
        .await
        .unwrap();
    assert_eq!(shop.run(&row("wx-school")).await, 1);
    let left: i64 = sqlx::query_scalar(policies)
        .fetch_one(queue.pool())
        .await
        .unwrap();
    assert_eq!(left, 0, "free when nobody is confined");
}

/// A row of which no clock can say anything would stop whoever looks at it.
#[tokio::test]
async fn an_impossible_time_enters_by_nobodys_hand() {
    let queue = Queue::new().await;
    let insert = |column: &str, time: &str| {
        format!(
            "insert into pending_notifications (appid, openid, template_id, data, {column}) values ('wx', 'o', 't', '{{\"thing1\": \"x\"}}', '{time}')"
        )
    };
    // A superuser, whom no privilege and no policy stops.
    for column in ["created_at", "send_at", "expire_at"] {
        for time in ["-infinity", "infinity", "9999-01-01"] {
            let error = sqlx::raw_sql(AssertSqlSafe(insert(column, time)))
                .execute(queue.pool())
                .await
                .unwrap_err();
            let error = error.into_database_error().unwrap();
            assert_eq!(
                error.code().as_deref(),
                Some("23514"),
                "{column} {time}: {error}"
            );
        }
    }
    sqlx::raw_sql("alter table pending_notifications disable trigger user")
        .execute(queue.pool())
        .await
        .unwrap();
    let error = sqlx::raw_sql(AssertSqlSafe(insert("due", "-infinity")))
        .execute(queue.pool())
        .await
        .unwrap_err();
    let error = error.into_database_error().unwrap();
    assert_eq!(error.constraint(), Some("due_is_a_time"), "{error}");
}
