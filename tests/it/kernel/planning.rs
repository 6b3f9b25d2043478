//! What keeps the queue fast, by blocks and calls and never by the clock: plans, dead rows, pinned snapshots, late commits,
//! and the partitions that settling needs.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection};

use super::{APP, Lease, Outcome, Queue, lease_after, run, settle, start};

/// Everything from the start.
const START: (DateTime<Utc>, i64) = (DateTime::UNIX_EPOCH, 0);

/// Blocks that a statement touches, whatever its functions do included.
async fn blocks(session: &mut PgConnection, statement: &str) -> i64 {
    let statement = AssertSqlSafe(format!(
        "explain (analyze, buffers, format json) {statement}"
    ));
    let plan: Value = sqlx::query_scalar(statement)
        .fetch_one(session)
        .await
        .unwrap();
    let plan = &plan[0]["Plan"];
    plan["Shared Hit Blocks"].as_i64().unwrap() + plan["Shared Read Blocks"].as_i64().unwrap()
}

/// As [`blocks`], of the second call, the first being rolled back: between them a session can hardly be told of so much that it forgets the catalogue.
async fn blocks_when_warm(session: &mut PgConnection, statement: &str) -> i64 {
    run(&mut *session, "begin").await;
    run(&mut *session, statement).await;
    run(&mut *session, "rollback").await;
    blocks(session, statement).await
}

fn lease_call(watermark: (DateTime<Utc>, i64), low_lease_id: i64, rows: i32) -> String {
    let (due, id) = watermark;
    format!(
        "select * from wxnotify_lease('{APP}', 1::smallint, 'w', '{due}', {id}, {low_lease_id}, {rows}, 30)"
    )
}

/// The only lease there is.
async fn live_lease(session: &mut PgConnection) -> Lease {
    let (lease_id, ids): (i64, Vec<i64>) =
        sqlx::query_as("select lease_id, ids from notification_leases")
            .fetch_one(session)
            .await
            .unwrap();
    Lease {
        appid: APP.to_owned(),
        worker: "w".to_owned(),
        lease_id,
        low_lease_id: lease_id,
        ids,
    }
}

fn settle_call(lease: &Lease) -> String {
    let ids = lease
        .ids
        .iter()
        .map(i64::to_string)
        .collect::<Vec<_>>()
        .join(",");
    let none = "'{}', ".repeat(11);
    format!(
        "select wxnotify_settle('{APP}', {}, 'w', true, '{{{ids}}}', array_fill(null::bigint, array[{}]), {none} 120, 600)",
        lease.lease_id,
        lease.ids.len()
    )
}

/// Half of a lease's rows die, half wait to retry.
fn settle_unsent_call(lease: &Lease) -> String {
    let ids = lease
        .ids
        .iter()
        .map(i64::to_string)
        .collect::<Vec<_>>()
        .join(",");
    format!(
        "select wxnotify_settle('{APP}', {}, 'w', true, '{{}}', '{{}}', u.ids, u.verdicts, u.delays, u.texts, u.errcodes, u.texts, u.texts,
             u.numbers::smallint[], u.texts, u.numbers, u.texts, 120, 600)
         from (select array_agg(id) as ids, array_agg(case when id % 2 = 0 then 'dead' else 'retry' end) as verdicts,
                   array_agg(600.0::float8) as delays, array_agg(null::text) as texts, array_agg(40003::bigint) as errcodes,
                   array_agg(null::int) as numbers
               from unnest(array[{ids}]::bigint[]) id) u",
        lease.lease_id
    )
}

/// A session whose plans were made while there was next to nothing: `rows` of each fate at a time.
async fn session_with_early_plans(queue: &Queue, rows: usize) -> PgConnection {
    let mut session = queue.session().await;
    for round in 0..7 {
        let ids = queue
            .enqueue_all((0..rows * 3).map(|n| json!({"openid": format!("early-{n}"), "dedup_key": format!("early-{round}-{n}")})))
            .await;
        let lease = lease_after(&mut session, APP, 1, "w", 500, START, 0)
            .await
            .unwrap()
            .unwrap();
        assert!(start(&mut session, &lease).await);
        let outcomes = ids.iter().enumerate().map(|(n, id)| match n % 3 {
            0 => Outcome::sent(*id),
            1 => Outcome::dead(*id, 40003, "kept"),
            _ => Outcome {
                delay_secs: 600.0,
                ..Outcome::retry(*id)
            },
        });
        let outcomes = outcomes.collect::<Vec<_>>();
        assert_eq!(
            settle(&mut session, &lease, true, &outcomes).await.unwrap(),
            Some(vec![])
        );
        let others = format!(
            "select wxnotify_tidy('{APP}', 1::smallint), wxnotify_rescue(1, 1), wxnotify_weigh('{APP}')"
        );
        run(&mut session, &others).await;
        run(
            &mut session,
            &format!("select arm('{APP}', 'nobody', 'template-1', '{{\"thing1\": \"x\"}}')"),
        )
        .await;
        run(&mut session, "delete from pending_notifications").await;
    }
    session
}

/// What each statement that looks rows up by id touches, in one session after another of the same calls.
async fn blocks_of_looks_by_id(
    queue: &Queue,
    session: &mut PgConnection,
) -> Vec<(&'static str, i64)> {
    let mut touched = Vec::new();
    let lease = async |session: &mut PgConnection| {
        run(&mut *session, &lease_call(START, 0, 20)).await;
        let lease = live_lease(session).await;
        assert_eq!(lease.ids.len(), 20);
        assert!(start(&mut *session, &lease).await);
        lease
    };
    let sent = lease(session).await;
    touched.push((
        "settle sent rows",
        blocks(session, &settle_call(&sent)).await,
    ));
    let unsent = lease(session).await;
    touched.push((
        "settle others",
        blocks(session, &settle_unsent_call(&unsent)).await,
    ));
    let lost = lease(session).await;
    queue.expire_leases().await;
    touched.push((
        "rescue",
        blocks(session, "select wxnotify_rescue(120, 600)").await,
    ));
    let calls = [
        ("decide not sent", format!("select wxnotify_decide('{APP}', {}, 'not_sent', 'late_reply')", lost.ids[0])),
        ("decide sent", format!("select wxnotify_decide('{APP}', {}, 'sent', 'late_reply', 7)", lost.ids[1])),
        (
            "late reply",
            format!(
                "select wxnotify_offer_late_reply('{APP}', id, last_lease, in_doubt_since, 'w', false, true, 40003, null, null, null)
                 from (select * from pending_notifications where id = {}) p",
                lost.ids[2]
            ),
        ),
        ("end doubts", format!("select * from wxnotify_end_doubts('{{{}}}', 'retry')", lost.ids[3])),
        ("tidy", format!("select wxnotify_tidy('{APP}', 1::smallint, 20)")),
        ("arm", format!("select arm('{APP}', 'holder', 'template-1', '{{\"thing1\": \"x\"}}')")),
        ("a producer's UPDATE", format!("update pending_notifications set lane = 2 where id = {}", lost.ids[0])),
        ("a producer's DELETE", format!("delete from pending_notifications where id = {}", lost.ids[0])),
    ];
    for (what, call) in calls {
        touched.push((what, blocks(session, &call).await));
    }
    touched
}

/// Autovacuum comes by when the queue has run empty, and plans are made anew by what it found.
#[tokio::test]
async fn plans_made_by_the_statistics_of_an_empty_queue_serve_a_full_one() {
    let queue = Queue::new().await;
    let fill = async |rows: i32| {
        queue.enqueue_many(APP, rows).await;
        queue
            .enqueue(json!({"openid": "holder", "held": true}))
            .await;
    };
    let empty = async || {
        queue.force("delete from pending_notifications").await;
        run(queue.pool(), "vacuum analyze pending_notifications").await;
    };
    // Enough for the indexes to have been tall: what is left of them then differs in cost.
    fill(20_000).await;
    empty().await;
    let mut session = queue.session().await;
    fill(60).await;
    let small = blocks_of_looks_by_id(&queue, &mut session).await;
    empty().await;
    fill(60).await;
    blocks_of_looks_by_id(&queue, &mut session).await;
    empty().await;
    fill(20_000).await;
    let large = blocks_of_looks_by_id(&queue, &mut session).await;
    let dear: Vec<_> = small
        .iter()
        .zip(&large)
        .filter(|((_, small), (_, large))| *large >= 2 * small.max(&40))
        .collect();
    assert!(
        dear.is_empty(),
        "blocks on an empty table and on a full one: {dear:#?}"
    );
}

/// A bad plan is bad each time. What is not: a session that is told of too much at once, by the making of many databases beside it, forgets what it
/// knows of the catalogue, and reads 2,000 blocks of it again in its next call.
#[tokio::test]
async fn plans_serve_a_hundred_thousand_rows_whenever_they_were_made() {
    let mut wrong = Vec::new();
    for _ in 0..3 {
        match try_plans().await {
            Ok(()) => return,
            Err(what) => wrong.push(what),
        }
    }
    panic!("{wrong:#?}");
}

async fn try_plans() -> Result<(), String> {
    const ROWS: i64 = 60;
    let queue = Queue::new().await;
    // An autovacuum between two calls throws the plans away: 2,000 blocks of the catalogue are read again, and no early plan is left to be tried.
    for table in [
        "pending_notifications",
        "notification_keys",
        "notification_leases",
    ] {
        run(
            queue.pool(),
            &format!("alter table {table} set (autovacuum_enabled = off)"),
        )
        .await;
    }
    let mut sessions = Vec::new();
    for rows in [1, 50] {
        sessions.push((
            format!("{rows} rows early"),
            session_with_early_plans(&queue, rows).await,
        ));
    }
    run(
        queue.pool(),
        &format!(
            "insert into pending_notifications (appid, openid, template_id, data, dedup_key)
             select '{APP}', 'user-' || n, 'template-1', '{{\"thing1\": \"x\"}}', case when n % 3 = 0 then 'key-' || n end
             from generate_series(1, 100000) n"
        ),
    )
    .await;
    run(queue.pool(), &format!("insert into notification_keys select '{APP}', 'old-' || n, -n from generate_series(1, 50000) n")).await;
    sessions.push(("after the load".to_owned(), queue.session().await));
    sessions.push(("after ANALYZE".to_owned(), queue.session().await));

    for (when, mut session) in sessions {
        if when == "after ANALYZE" {
            run(&mut session, "analyze").await;
        }
        let leasing = blocks_when_warm(&mut session, &lease_call(START, 0, 60)).await;
        let lease = live_lease(&mut session).await;
        assert_eq!(lease.ids.len(), 60);
        assert!(start(&mut session, &lease).await);
        let settling = blocks_when_warm(&mut session, &settle_call(&lease)).await;
        assert_eq!(queue.leases().await, 0);

        let leasing_doubtful = blocks_when_warm(&mut session, &lease_call(START, 0, 60)).await;
        let lease = live_lease(&mut session).await;
        assert!(start(&mut session, &lease).await);
        queue.expire_leases().await;
        let rescuing = blocks_when_warm(&mut session, "select wxnotify_rescue(120, 600)").await;
        let statement =
            "select openid from pending_notifications where in_doubt_since is not null limit 1";
        let openid: String = sqlx::query_scalar(statement)
            .fetch_one(&mut session)
            .await
            .unwrap();
        queue.event(&openid, lease.lease_id, 0).await;
        // Its first call in a session touches mostly the catalogue, 2,245 blocks on 15 and 2,837 on 18, with one plan and 180 and
        // 132 blocks from then on: the second one is counted.
        let weigh = format!("select wxnotify_weigh('{APP}')");
        run(&mut session, "begin").await;
        run(&mut session, &weigh).await;
        run(&mut session, "rollback").await;
        let weighing = blocks(&mut session, &weigh).await;
        let unsettled = lease_after(&mut session, APP, 1, "w", 60, START, 0)
            .await
            .unwrap()
            .unwrap();
        assert!(start(&mut session, &unsettled).await);
        let settling_unsent = blocks_when_warm(&mut session, &settle_unsent_call(&unsettled)).await;
        assert_eq!(queue.leases().await, 0);
        let tidying = blocks_when_warm(
            &mut session,
            &format!("select wxnotify_tidy('{APP}', 1::smallint, 60)"),
        )
        .await;
        // As weigh's: its first call in a session and transaction looks in the catalogue for the month's partition.
        let cancel = "delete from pending_notifications where id = (select max(id) from pending_notifications)";
        run(&mut session, "begin").await;
        run(&mut session, cancel).await;
        run(&mut session, "rollback").await;
        let cancelling = blocks(&mut session, cancel).await;
        let arming =
            format!("select arm('{APP}', 'user-50000', 'template-1', '{{\"thing1\": \"x\"}}')");
        let arming = blocks(&mut session, &arming).await;

        // A walk through the rows by an index of another order is over 20,000 blocks. The first call of a
        // session also reads the catalogue, which the bounds allow for.
        for (what, blocks, most) in [
            ("lease", leasing, 60 * ROWS),
            ("lease again", leasing_doubtful, 25 * ROWS),
            ("settle sent rows", settling, 60 * ROWS),
            ("settle others", settling_unsent, 80 * ROWS),
            ("rescue", rescuing, 80 * ROWS),
            ("weigh", weighing, 10 * ROWS),
            ("tidy", tidying, 25 * ROWS),
            ("cancel", cancelling, 200),
            ("arm", arming, 200),
        ] {
            if blocks >= most {
                return Err(format!(
                    "plans made {when}: {what} touched {blocks} blocks, expected less than {most}"
                ));
            }
        }
        run(&mut session, "set gin_fuzzy_search_limit = 20784").await;
        run(
            &mut session,
            "delete from pending_notifications where in_doubt_since is not null or attempts > 0",
        )
        .await;
    }
    Ok(())
}

#[tokio::test]
async fn twenty_thousand_dead_leases_cost_a_worker_nothing_that_knows_the_oldest_live_one() {
    let queue = Queue::new().await;
    queue.enqueue_many(APP, 1000).await;
    let mut session = queue.session().await;
    let clean = blocks(&mut session, &lease_call(START, 0, 64)).await;
    let lease = live_lease(&mut session).await;
    queue
        .settle(
            &lease,
            &lease
                .ids
                .iter()
                .map(|id| Outcome::sent(*id))
                .collect::<Vec<_>>(),
        )
        .await;
    let mut pinned = queue.session().await;
    run(&mut pinned, "begin isolation level repeatable read").await;
    run(&mut pinned, "select from notification_leases").await;
    run(
        queue.pool(),
        &format!(
            "insert into notification_leases (appid, worker, ids, user_keys, expires_at)
             select '{APP}', 'gone', array[-n], array[n], now() from generate_series(1, 20000) n"
        ),
    )
    .await;
    run(
        queue.pool(),
        "delete from notification_leases where worker = 'gone'",
    )
    .await;

    let low = lease.lease_id + 20_000;
    let knowing = blocks(&mut session, &lease_call(START, low, 64)).await;
    let lease = live_lease(&mut session).await;
    let settling = blocks(&mut session, &settle_call(&lease)).await;
    let forgetful = blocks(&mut session, &lease_call(START, 0, 64)).await;

    assert!(
        knowing < clean * 3 / 2 + 100,
        "{knowing} blocks after the dead leases, {clean} before"
    );
    assert!(settling < 60 * 64, "settle: {settling} blocks");
    assert!(
        forgetful > knowing + 200,
        "the dead leases are there: {forgetful} blocks without the mark, {knowing} with it"
    );
    run(&mut pinned, "commit").await;
}

/// Rows come and go at one pace while a snapshot keeps every dead one visible to somebody.
#[tokio::test]
async fn a_pinned_snapshot_costs_nothing_in_steady_state() {
    const ROUNDS: usize = 120;
    /// The look-back, in rounds instead of a second, so that no clock decides.
    const LOOK_BACK: usize = 5;
    let queue = Queue::new().await;
    let mut session = queue.session().await;
    let mut pinned = queue.session().await;
    run(&mut pinned, "begin isolation level repeatable read").await;
    run(&mut pinned, "select from pending_notifications").await;

    let mut watermark = START;
    let mut low = 0;
    let mut began: Vec<DateTime<Utc>> = Vec::new();
    let (mut leasing, mut settling) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        began.push(Utc::now());
        queue.enqueue_many(APP, 50).await;
        let from = watermark.min((began[round.saturating_sub(LOOK_BACK)], 0));
        leasing.push(blocks(&mut session, &lease_call(from, low, 64)).await);
        let lease = live_lease(&mut session).await;
        assert_eq!(lease.ids.len(), 50, "round {round}");
        low = lease.lease_id;
        watermark = sqlx::query_as(
            "select due, id from pending_notifications order by due desc, id desc limit 1",
        )
        .fetch_one(&mut session)
        .await
        .unwrap();
        settling.push(blocks(&mut session, &settle_call(&lease)).await);
    }
    queue.enqueue_many(APP, 50).await;
    let from_the_start = blocks(&mut session, &lease_call(START, 0, 64)).await;

    let mean = |blocks: &[i64]| blocks.iter().sum::<i64>() / i64::try_from(blocks.len()).unwrap();
    for (what, blocks) in [("lease", &leasing), ("settle", &settling)] {
        let (early, late) = (mean(&blocks[10..20]), mean(&blocks[ROUNDS - 10..]));
        assert!(
            late < early * 3 / 2 + 50,
            "{what}: {early} blocks early, {late} late"
        );
    }
    let late = mean(&leasing[ROUNDS - 10..]);
    assert!(
        from_the_start > 3 * late,
        "the dead rows are there: {from_the_start} blocks from the start, {late} from the mark"
    );
}

/// Drains as a worker does: from the watermark, looked back a second, and from the very start at most once a second. Time
/// is counted in sweeps here. Returns how many sweeps it took.
async fn drain_after_late_commit(
    session: &mut PgConnection,
    rewinds: bool,
) -> (usize, HashSet<i64>) {
    let mut watermark = (Utc::now(), 0);
    let mut low = 0;
    let mut seen = HashSet::new();
    for sweep in 1..10_000 {
        let mut from = START;
        while let Some(lease) = lease_after(&mut *session, APP, 1, "w", 500, from, low)
            .await
            .unwrap()
        {
            low = lease.low_lease_id;
            assert!(lease.ids.iter().all(|id| seen.insert(*id)), "leased twice");
            if from > START || rewinds {
                let statement = "select due, id from pending_notifications where id = $1";
                watermark = sqlx::query_as(statement)
                    .bind(lease.ids.last())
                    .fetch_one(&mut *session)
                    .await
                    .unwrap();
            }
            assert!(start(&mut *session, &lease).await);
            let sent = lease
                .ids
                .iter()
                .map(|id| Outcome::sent(*id))
                .collect::<Vec<_>>();
            assert_eq!(
                settle(&mut *session, &lease, true, &sent).await.unwrap(),
                Some(vec![])
            );
            from = watermark.min((Utc::now() - chrono::TimeDelta::seconds(1), 0));
        }
        let statement = "select not exists (select from pending_notifications)";
        if sqlx::query_scalar(statement)
            .fetch_one(&mut *session)
            .await
            .unwrap()
        {
            return (sweep, seen);
        }
    }
    panic!("it never ends");
}

/// Inserts rows in a transaction that commits when its rows lie far behind everybody's watermark.
async fn commit_late(queue: &Queue, rows: i32) {
    let mut copy = queue.session().await;
    run(&mut copy, "set statement_timeout = 0").await;
    run(&mut copy, "begin").await;
    let statement = format!(
        "insert into pending_notifications (appid, openid, template_id, data)
         select '{APP}', 'user-' || n, 'template-1', '{{\"thing1\": \"x\"}}' from generate_series(1, {rows}) n"
    );
    run(&mut copy, &statement).await;
    run(&mut copy, "set gin_fuzzy_search_limit = 20784").await;
    run(
        &mut copy,
        "update pending_notifications set due = due - interval '1 minute'",
    )
    .await;
    let newer = queue.enqueue(json!({"openid": "newer"})).await;
    let mut session = queue.session().await;
    let lease = lease_after(&mut session, APP, 1, "w", 500, START, 0)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(lease.ids, [newer]);
    assert_eq!(
        settle(&mut session, &lease, true, &[Outcome::sent(newer)])
            .await
            .unwrap(),
        Some(vec![])
    );
    run(&mut copy, "commit").await;
}

#[tokio::test]
async fn a_hundred_thousand_rows_that_commit_late_drain_within_one_sweep() {
    let queue = Queue::new().await;
    commit_late(&queue, 100_000).await;
    let (sweeps, seen) = drain_after_late_commit(&mut queue.session().await, true).await;
    assert_eq!(seen.len(), 100_000);
    assert!(sweeps <= 2, "{sweeps} sweeps");
}

#[tokio::test]
async fn without_going_back_a_late_commit_drains_one_batch_a_sweep() {
    let queue = Queue::new().await;
    commit_late(&queue, 5_000).await;
    let (sweeps, seen) = drain_after_late_commit(&mut queue.session().await, false).await;
    assert_eq!(seen.len(), 5_000);
    assert_eq!(sweeps, 10);
}

async fn partition_bounds(queue: &Queue) -> Vec<(String, String)> {
    let mut session = queue.session().await;
    run(&mut session, "set timezone = 'UTC'").await;
    sqlx::query_as(
        "select c.relname::text, pg_get_expr(c.relpartbound, c.oid) from pg_class c join pg_inherits i on i.inhrelid = c.oid
         where i.inhparent = 'notification_history'::regclass order by 1",
    )
    .fetch_all(&mut session)
    .await
    .unwrap()
}

#[tokio::test]
async fn two_time_zones_making_partitions_at_once_agree_on_their_bounds() {
    let queue = Queue::new().await;
    let before = partition_bounds(&queue).await.len();
    let mut makers = Vec::new();
    for zone in ["Pacific/Kiritimati", "Pacific/Pago_Pago"] {
        let mut session = queue.session().await;
        run(&mut session, &format!("set timezone = '{zone}'")).await;
        makers.push(tokio::spawn(async move {
            let mut made = 0;
            for months in 4..9 {
                let statement = "select wxnotify_make_partitions($1)";
                made += sqlx::query_scalar::<_, i32>(statement)
                    .bind(months)
                    .fetch_one(&mut session)
                    .await
                    .unwrap();
            }
            made
        }));
    }
    let mut made = 0;
    for maker in makers {
        made += maker.await.unwrap();
    }
    assert_eq!(made, 2 * 5, "each partition of the two tables once");

    let bounds = partition_bounds(&queue).await;
    assert_eq!(bounds.len(), before + 5);
    let ends = |bound: &str| {
        bound
            .split('\'')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for pair in bounds.windows(2) {
        assert_eq!(
            ends(&pair[0].1)[1],
            ends(&pair[1].1)[0],
            "no gap after {}",
            pair[0].0
        );
    }
    assert!(
        bounds.iter().all(|(_, bound)| ends(bound)
            .iter()
            .all(|end| end.ends_with("-01 00:00:00+00"))),
        "{bounds:?}"
    );
}

#[tokio::test]
async fn making_partitions_waits_for_no_reader_and_holds_up_no_settle() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    let lease = queue.lease_and_start("one").await;
    let mut reader = queue.session().await;
    run(&mut reader, "begin").await;
    run(&mut reader, "select count(*) from notification_history").await;
    let mut maker = queue.session().await;
    run(&mut maker, "begin").await;
    run(&mut maker, "select wxnotify_make_partitions(5)").await;

    let settled = settle(
        &mut queue.session().await,
        &lease,
        true,
        &[Outcome::sent(id)],
    )
    .await
    .unwrap();
    assert_eq!(settled, Some(vec![]));
    run(&mut maker, "commit").await;
    run(&mut reader, "commit").await;
}

#[tokio::test]
async fn every_function_keeps_its_own_search_path_and_is_no_producers() {
    let queue = Queue::new().await;
    let open: Vec<String> = sqlx::query_scalar(
        "select p.proname::text from pg_proc p where p.pronamespace = 'public'::regnamespace and p.prosecdef
           and not coalesce(p.proconfig::text like '%search_path=%', false)",
    )
    .fetch_all(queue.pool())
    .await
    .unwrap();
    assert_eq!(
        open,
        Vec::<String>::new(),
        "SECURITY DEFINER without a search_path"
    );
    let public: Vec<String> = sqlx::query_scalar(
        "select p.proname::text from pg_proc p where p.pronamespace = 'public'::regnamespace
           and exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee = 0)",
    )
    .fetch_all(queue.pool())
    .await
    .unwrap();
    assert_eq!(public, Vec::<String>::new(), "EXECUTE is PUBLIC's");
}

#[tokio::test]
async fn retention_finds_what_has_ended_whatever_the_plan() {
    let queue = Queue::new().await;
    let mut session = queue.session().await;
    sqlx::raw_sql(
        "create table notification_history_2020_01 (like notification_history including defaults including constraints);
         alter table notification_history attach partition notification_history_2020_01
             for values from ('2020-01-01 00:00:00+00') to ('2020-02-01 00:00:00+00');
         set enable_nestloop = off; set enable_indexscan = off; set enable_bitmapscan = off",
    )
    .execute(&mut session)
    .await
    .unwrap();
    let mut dropped = Vec::new();
    for _ in 0..2 {
        let name: Option<String> = sqlx::query_scalar("select wxnotify_drop_old_partition(12)")
            .fetch_one(&mut session)
            .await
            .unwrap();
        dropped.push(name);
    }
    assert_eq!(dropped, [Some("notification_history_2020_01".into()), None]);
}

#[tokio::test]
async fn what_is_due_soon_is_asked_without_reading_what_is_due_later() {
    let queue = Queue::new().await;
    let mut session = queue.session().await;
    sqlx::query(
        "insert into pending_notifications (appid, openid, template_id, data, send_at)
         select $1, 'user-' || n, 'template-1', '{\"thing1\": \"x\"}', now() + interval '1 day' from generate_series(1, 20000) n",
    )
    .bind(APP)
    .execute(&mut session)
    .await
    .unwrap();
    sqlx::raw_sql("analyze pending_notifications; set jit = off")
        .execute(&mut session)
        .await
        .unwrap();
    let whole = blocks(
        &mut session,
        "select count(page) from pending_notifications",
    )
    .await;
    let soon = blocks(
        &mut session,
        include_str!("../../../sql/operator/what_is_due_next_hour.sql")
            .trim_end_matches([';', '\n']),
    )
    .await;
    assert!(soon * 4 < whole, "{soon} of {whole} blocks");
}
