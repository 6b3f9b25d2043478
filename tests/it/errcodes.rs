//! The table of errcodes as the migration fills it, and the pauses and probes it leads to.

use std::time::Duration;

use wxnotify::notification::{Credit, Effect, PauseUntil};
use wxnotify::store::{Connections, Store};
use wxnotify::wechat::errcode::{Disposition, ErrcodeTable};

use crate::harness::TestDatabase;

const APPID: &str = "wx1111222233334444";

/// Every code that WeChat's send and token calls are known to answer with.
const KNOWN: &[i64] = &[
    0, -1, 40001, 40014, 42001, 41001, 42002, 40002, 40013, 40125, 41002, 41004, 40164, 61004,
    45035, 40243, 50004, 50007, 89501, 89502, 89503, 89504, 89505, 89506, 89507, 43001, 43002,
    43003, 45009, 45011, 44990, 48001, 48004, 48008, 50001, 50002, 61007, 40234, 934_011, 43101,
    40003, 40037, 40036, 41030, 40165, 43107, 43108, 43116, 43104, 45168, 47003, 47001, 47002,
    40033, 44002, 40097, 40035, 41011, 45047, 40249, 40250, 40251, 40252, 40032, 40038, 9_800_001,
    9_800_002, 9_800_003, 9_800_006,
];

async fn store() -> (TestDatabase, Store) {
    let database = TestDatabase::new().await;
    let store = Store::new(database.pool().clone());
    sqlx::query("insert into wechat_apps (appid) values ($1)")
        .bind(APPID)
        .execute(&store.pool)
        .await
        .unwrap();
    (database, store)
}

/// Seconds until the mini-program's pause ends; infinite for an operator's.
async fn pause_secs(pool: &Connections) -> Option<f64> {
    sqlx::query_scalar(
        "select case when paused_until = 'infinity' then 'infinity'::float8
                     else extract(epoch from paused_until - clock_timestamp())::float8 end
         from wechat_apps where appid = $1",
    )
    .bind(APPID)
    .fetch_one(pool)
    .await
    .unwrap()
}

async fn probing(pool: &Connections) -> bool {
    sqlx::query_scalar("select probing from wechat_apps where appid = $1")
        .bind(APPID)
        .fetch_one(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn the_migrations_rows_are_rules_and_every_known_code_is_listed() {
    let (_database, store) = store().await;
    let rules = store.errcode_rules().await.unwrap();
    for errcode in KNOWN {
        assert!(
            rules.iter().any(|rule| rule.errcode == Some(*errcode)),
            "{errcode} is not listed"
        );
    }
}

#[tokio::test]
async fn codes_mean_what_wechats_documents_say() {
    use Disposition::{Dead, PauseApp, PauseTemplate, PauseUser, RefreshToken, Retry, Sent};
    let (_database, store) = store().await;
    let table = ErrcodeTable::new(store.errcode_rules().await.unwrap());
    for (errcode, disposition) in [
        (0, Sent),
        (-1, Retry),
        (40001, RefreshToken),
        (42001, RefreshToken),
        (40164, PauseApp),
        (45009, PauseApp),
        (45011, PauseApp),
        (40037, PauseTemplate),
        (43107, PauseTemplate),
        (43108, PauseUser),
        (43101, Dead),
        (47003, Dead),
        (123_456, Retry),
    ] {
        assert_eq!(
            table.rule(errcode).disposition,
            disposition,
            "errcode {errcode}"
        );
    }
    assert_eq!(table.rule(43101).credit, Credit::Gone);
    assert_eq!(table.rule(47003).credit, Credit::Kept);
    assert_eq!(table.rule(45009).pause, Some(PauseUntil::ChinaMidnight));
    assert_eq!(
        table.rule(40164).pause,
        Some(PauseUntil::After(Duration::from_secs(300)))
    );
    assert_eq!(table.rule(123_456).retries_max, Some(3));
    assert!(table.rule(47003).escalation.is_some());
}

#[tokio::test]
async fn a_rule_that_makes_no_sense_is_refused() {
    let (_database, store) = store().await;
    for change in [
        "update wechat_errcodes set disposition = 'perhaps' where errcode = -1",
        "update wechat_errcodes set disposition = 'pause_app' where errcode = -1",
        "update wechat_errcodes set pause_until = 'friday' where errcode = 45009",
        "update wechat_errcodes set pause_secs = 5 where errcode = 45009",
        "update wechat_errcodes set escalate_to = 'app' where errcode = -1",
        "update wechat_errcodes set escalate_calls = 65 where errcode = 47003",
        "update wechat_errcodes set credit = 'lost' where errcode = 43101",
    ] {
        let error = sqlx::query(change).execute(&store.pool).await.unwrap_err();
        assert!(
            error.to_string().contains("check constraint"),
            "{change}: {error}"
        );
    }
}

#[tokio::test]
async fn what_an_operator_changes_is_what_workers_read() {
    let (_database, store) = store().await;
    sqlx::query(
        "update wechat_errcodes set disposition = 'retry', retries_max = 1 where errcode = 43101",
    )
    .execute(&store.pool)
    .await
    .unwrap();
    let table = ErrcodeTable::new(store.errcode_rules().await.unwrap());
    assert_eq!(table.rule(43101).disposition, Disposition::Retry);
    assert_eq!(table.rule(43101).retries_max, Some(1));
}

#[tokio::test]
async fn a_pause_is_never_shortened_and_keeps_the_reason_of_its_end() {
    let (_database, store) = store().await;
    let minutes = |minutes: u64| PauseUntil::After(Duration::from_secs(60 * minutes));
    assert!(
        store
            .pause_app(APPID, minutes(10), "long", Some(1))
            .await
            .unwrap()
    );
    assert!(
        store
            .pause_app(APPID, minutes(1), "short", Some(2))
            .await
            .unwrap()
    );
    let left = pause_secs(&store.pool).await.unwrap();
    assert!((590.0..=600.0).contains(&left), "{left}");
    let reason: String = sqlx::query_scalar("select pause_reason from wechat_apps")
        .fetch_one(&store.pool)
        .await
        .unwrap();
    assert_eq!(reason, "long");
    store
        .pause_app(APPID, PauseUntil::Operator, "stop", None)
        .await
        .unwrap();
    store
        .pause_app(APPID, PauseUntil::ChinaMidnight, "quota", None)
        .await
        .unwrap();
    assert_eq!(pause_secs(&store.pool).await, Some(f64::INFINITY));
}

#[tokio::test]
async fn pauses_by_rule_end_when_quotas_begin_anew() {
    let (_database, store) = store().await;
    store
        .pause_app(APPID, PauseUntil::NextMinute, "minute", None)
        .await
        .unwrap();
    let left = pause_secs(&store.pool).await.unwrap();
    assert!((0.0..=71.0).contains(&left), "{left}");
    store
        .pause_app(APPID, PauseUntil::ChinaMidnight, "day", None)
        .await
        .unwrap();
    let secs_past_midnight: f64 = sqlx::query_scalar(
        "select extract(epoch from (paused_until at time zone 'Asia/Shanghai')::time)::float8 from wechat_apps",
    )
    .fetch_one(&store.pool)
    .await
    .unwrap();
    assert!(
        (0.0..=60.0).contains(&secs_past_midnight),
        "{secs_past_midnight}"
    );
    let left = pause_secs(&store.pool).await.unwrap();
    assert!((0.0..=86_460.0).contains(&left), "{left}");
}

/// Else every send in flight would wait for the lock on the mini-program's row.
#[tokio::test]
async fn a_pause_that_is_already_there_is_not_written_again() {
    let (database, store) = store().await;
    store
        .pause_app(APPID, PauseUntil::ChinaMidnight, "day", None)
        .await
        .unwrap();
    let mut other = database.connect().await;
    sqlx::raw_sql("begin; select from wechat_apps for update")
        .execute(&mut other)
        .await
        .unwrap();
    let again = store.pause_app(APPID, PauseUntil::ChinaMidnight, "day", None);
    assert!(
        tokio::time::timeout(Duration::from_secs(5), again)
            .await
            .unwrap()
            .unwrap()
    );
}

#[tokio::test]
async fn a_mini_program_that_is_not_registered_is_not_paused() {
    let (_database, store) = store().await;
    let paused = store
        .pause_app("wxunknown", PauseUntil::Operator, "stop", None)
        .await;
    assert!(!paused.unwrap());
}

#[tokio::test]
async fn an_unknown_rule_is_refused_by_name() {
    let (_database, store) = store().await;
    let error = sqlx::query("select wxnotify_pause_app('wx', null, 'friday', 'why', null)")
        .execute(&store.pool)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("\"friday\""), "{error}");
    let neither = sqlx::query("select wxnotify_pause_app('wx', null, null, 'why', null)");
    assert!(neither.execute(&store.pool).await.is_err());
}

#[tokio::test]
async fn a_sound_probe_ends_a_lapsed_pause_and_not_one_that_runs() {
    let (_database, store) = store().await;
    store
        .pause_app(
            APPID,
            PauseUntil::After(Duration::from_secs(60)),
            "busy",
            None,
        )
        .await
        .unwrap();
    assert!(!store.probe_ok(APPID).await.unwrap());
    assert!(probing(&store.pool).await);
    sqlx::query("update wechat_apps set paused_until = now() - interval '1 second'")
        .execute(&store.pool)
        .await
        .unwrap();
    assert!(store.probe_ok(APPID).await.unwrap());
    assert!(!probing(&store.pool).await);
    assert_eq!(pause_secs(&store.pool).await, None);
}

#[tokio::test]
async fn a_template_is_paused_once_and_its_pause_grows_only() {
    let (_database, store) = store().await;
    let pause = |until| Effect::PauseTemplate {
        appid: APPID.into(),
        template_id: "T1".into(),
        until,
        reason: "errcode 40252".into(),
        errcode: Some(40252),
    };
    for until in [
        PauseUntil::After(Duration::from_secs(3600)),
        PauseUntil::After(Duration::from_secs(5)),
    ] {
        store.apply_effect(&pause(until)).await.unwrap();
    }
    let left: Vec<f64> = sqlx::query_scalar(
        "select extract(epoch from paused_until - clock_timestamp())::float8 from wechat_templates",
    )
    .fetch_all(&store.pool)
    .await
    .unwrap();
    assert!(left.len() == 1 && left[0] > 3500.0, "{left:?}");
}

#[tokio::test]
async fn every_table_column_and_function_of_these_migrations_is_explained() {
    let (_database, store) = store().await;
    let silent: Vec<String> = sqlx::query_scalar(
        "select c.relname || '.' || a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid
         where c.relname in ('wechat_errcodes', 'wechat_access_tokens') and a.attnum > 0
           and col_description(c.oid, a.attnum) is null
         union all
         select p.proname from pg_proc p where p.proname ~ '^wxnotify_.*(pause|probe|token|forced)'
           and (obj_description(p.oid, 'pg_proc') is null or has_function_privilege('public', p.oid, 'execute'))",
    )
    .fetch_all(&store.pool)
    .await
    .unwrap();
    assert!(silent.is_empty(), "{silent:?}");
}
