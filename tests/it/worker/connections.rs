//! How many connections a worker takes, and what it does when the server has no place for more.

use std::time::Duration;

use serde_json::json;
use sqlx::AssertSqlSafe;
use wxnotify::store::{Route, Shares, Store};

use super::Scene;
use crate::harness::{eventually, free_address, in_time};
use crate::security::Login;

/// The connections of a login, counted by the server itself while the worker does everything it ever does.
async fn most_connections(scene: &Scene, user: &str, rows: usize) -> i64 {
    let mut most = 0;
    let mut connection = scene.database.connect().await;
    eventually("all rows are sent", async || {
        let asked = "select (select count(*) from pg_stat_activity where usename = $1),
                            (select count(*) from notification_history where status = 'sent')";
        let (open, sent): (i64, i64) = sqlx::query_as(asked)
            .bind(user)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        most = most.max(open);
        (usize::try_from(sent).unwrap() == rows).then_some(())
    })
    .await;
    most
}

/// A login that workers use, and its URL.
async fn worker_login(scene: &Scene, limit: u32) -> (Login, String) {
    let login = Login::of("wxnotify_worker", &scene.database).await;
    let statement = format!("alter role {} connection limit {limit}", login.name);
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(scene.pool())
        .await
        .unwrap();
    login.pool.close().await;
    let url = login.url(&scene.database);
    (login, url)
}

#[test]
fn the_shares_of_all_uses_are_together_what_the_setting_says() {
    for connections in 3..=100 {
        for (route, own) in [(Route::Direct, 2), (Route::TransactionPooler, 1)] {
            for receives_events in [false, true] {
                let shares = Shares::of(connections, route, receives_events);
                assert_eq!(shares.statements + shares.events + own, connections);
                assert!(shares.statements >= 1);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_never_takes_more_connections_than_it_is_told() {
    for (connections, callbacks) in [(6, true), (6, false), (3, true), (4, false)] {
        let scene = Scene::new().await;
        let (login, url) = worker_login(&scene, 20).await;
        scene.insert_many("oUser", 120, json!({})).await;
        let number = connections.to_string();
        let mut settings = vec![
            ("DATABASE_URL", url.as_str()),
            ("WXNOTIFY_POOL_CONNECTIONS", number.as_str()),
        ];
        let address = free_address().to_string();
        if callbacks {
            settings.push(("WXNOTIFY_LISTEN", &address));
            settings.push(("WXNOTIFY_CALLBACK_TOKEN_wx1111222233334444", "token"));
        }
        let worker = scene.start(&settings);
        let most = most_connections(&scene, &login.name, 120).await;
        assert!(most <= connections, "{most} of {connections}");
        worker.stop().await;
    }
}

/// The server allows fewer than the worker would take: what it has goes round, leases first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_role_may_have_three_connections_works_all_the_same() {
    let scene = Scene::new().await;
    let (login, url) = worker_login(&scene, 3).await;
    scene.insert_many("oUser", 120, json!({})).await;
    let worker = scene.start(&[("DATABASE_URL", &url), ("WXNOTIFY_CONCURRENCY", "32")]);
    assert!(most_connections(&scene, &login.name, 120).await <= 3);
    worker.stop().await;
}

/// Others have the role's connections but one, and give them back later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_refused_at_its_start_names_the_refusal_and_waits() {
    let scene = Scene::new().await;
    let (login, url) = worker_login(&scene, 1).await;
    let id = scene.insert("oUser", json!({})).await;
    let other = sqlx::PgPool::connect(&url).await.unwrap();
    let mut worker = scene.spawn(&[
        ("DATABASE_URL", &url),
        ("WXNOTIFY_STATEMENT_TIMEOUT_SECS", "1"),
    ]);
    worker.until_logged("too many connections for role").await;
    let statement = format!("alter role {} connection limit 3", login.name);
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(scene.pool())
        .await
        .unwrap();
    other.close().await;
    scene.until(id, "sent").await;
    worker.kill().await;
}

/// More at once than the role may have connections for, with little patience.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_start_together_wait_for_each_other_instead_of_ending() {
    let scene = Scene::new().await;
    let (_login, url) = worker_login(&scene, 12).await;
    let id = scene.insert("oUser", json!({})).await;
    let workers: Vec<_> = (0..8)
        .map(|number| {
            let name = format!("w{number}");
            scene.start(&[
                ("DATABASE_URL", &url),
                ("WXNOTIFY_WORKER", &name),
                ("WXNOTIFY_POOL_CONNECTIONS", "3"),
                ("WXNOTIFY_STATEMENT_TIMEOUT_SECS", "0.5"),
            ])
        })
        .collect();
    scene.until(id, "sent").await;
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test]
async fn when_none_comes_free_the_error_says_which_setting_bounds_them() {
    let scene = Scene::new().await;
    let url = scene.database.url().parse().unwrap();
    let store = Store::connect_lazy(url, Route::Direct, 1, Duration::from_secs(2));
    let held = store.borrow().await.unwrap();
    let error = store.pool.borrow().await.unwrap_err().to_string();
    assert!(error.contains("WXNOTIFY_POOL_CONNECTIONS"), "{error}");
    drop(held);
    in_time("it comes back", store.borrow()).await.unwrap();
}

/// What can wait does not take the only connection before a statement that sends.
#[tokio::test]
async fn housekeeping_lets_others_pass() {
    let scene = Scene::new().await;
    let url = scene.database.url().parse().unwrap();
    let store = Store::connect_lazy(url, Route::Direct, 1, Duration::from_secs(20));
    let held = store.borrow().await.unwrap();
    let (urgent, housekeeping) = (store.clone(), store.giving_way());
    let order = std::sync::Mutex::new(Vec::new());
    let urgent = async {
        urgent.durability().await.unwrap();
        order.lock().unwrap().push("urgent");
    };
    let housekeeping = async {
        housekeeping.durability().await.unwrap();
        order.lock().unwrap().push("housekeeping");
    };
    let release = async {
        tokio::task::yield_now().await;
        drop(held);
    };
    // The urgent one asks first, so that the other sees it wait.
    tokio::join!(urgent, housekeeping, release);
    assert_eq!(*order.lock().unwrap(), ["urgent", "housekeeping"]);
}

#[tokio::test]
async fn commits_of_ours_are_durable_where_the_database_says_off() {
    let scene = Scene::new().await;
    let set = "do $$ begin execute format('alter database %I set synchronous_commit = off', current_database()); end $$";
    sqlx::raw_sql(set).execute(scene.pool()).await.unwrap();
    for route in [Route::Direct, Route::TransactionPooler] {
        let url = scene.database.url().parse().unwrap();
        let store = Store::connect_lazy(url, route, 1, Duration::from_secs(20));
        let durability = store.durability().await.unwrap();
        assert_eq!(durability.synchronous_commit, "local", "{route:?}");
        assert_eq!(durability.weakness(), None);
    }
    let set = "do $$ begin execute format('alter database %I set synchronous_commit = remote_write', current_database()); end $$";
    sqlx::raw_sql(set).execute(scene.pool()).await.unwrap();
    let url = scene.database.url().parse().unwrap();
    let store = Store::connect_lazy(url, Route::Direct, 1, Duration::from_secs(20));
    assert_eq!(
        store.durability().await.unwrap().synchronous_commit,
        "remote_write"
    );
}
