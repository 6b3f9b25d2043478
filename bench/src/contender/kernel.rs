//! The other ceiling: wxnotify's queue without requests. Leases are taken one after the other, each row counts as sent at
//! once, and two settles run beside the leases, as in the worker.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use wxnotify::notification::{Outcome, Verdict};
use wxnotify::store::{
    DoubtPolicy, LaneRequest, LeaseKey, LeaseRequest, Leased, Route, SettleRequest, Settled, Store,
    Watermark,
};

use crate::message::APPID;

const LEASE: Duration = Duration::from_secs(30);
const DOUBT: DoubtPolicy = DoubtPolicy {
    window: Duration::from_secs(120),
    age: Duration::from_secs(168 * 3600),
};

pub async fn drain(database_url: &str, lease_rows: u32) -> anyhow::Result<()> {
    let store = Store::connect_lazy(
        database_url.parse()?,
        Route::Direct,
        5,
        Duration::from_secs(10),
    );
    let worker: Arc<str> = "kernel#1".into();
    let settling = Arc::new(Semaphore::new(2));
    let (mut after, mut low_lease_id) = (Watermark::START, 0);
    loop {
        let request = LeaseRequest {
            lanes: &[LaneRequest {
                appid: APPID.to_owned(),
                lane: 1,
                after,
                low_lease_id,
            }],
            worker: &worker,
            rows: lease_rows as usize,
            total: lease_rows as usize,
            lease: LEASE,
            start: false,
        };
        let leased = store.lease(&request).await?.pop();
        let lease = match leased.map(|lane| lane.leased) {
            None | Some(Leased::Nothing) => break,
            Some(Leased::Cleared) => continue,
            Some(Leased::Batch {
                lease,
                watermark,
                low_lease_id: low,
            }) => {
                (after, low_lease_id) = (watermark, low);
                lease
            }
        };
        let permit = settling.clone().acquire_owned().await?;
        let (store, worker) = (store.clone(), worker.to_string());
        tokio::spawn(async move {
            let key = LeaseKey {
                appid: lease.appid,
                lease_id: lease.lease_id,
                worker,
                leased_at: lease.leased_at,
            };
            let outcomes: Vec<Outcome> = lease
                .rows
                .iter()
                .flatten()
                .map(|row| Outcome {
                    msgid: Some((1 << 60) + row.id),
                    errcode: Some(0),
                    ..Outcome::unsent(row.id, Verdict::Sent, None)
                })
                .collect();
            let started = store.start(std::slice::from_ref(&key), LEASE).await;
            let lease_id = key.lease_id;
            let request = SettleRequest {
                lease: key,
                outcomes: Arc::new(outcomes),
                close: true,
            };
            let settled = store.settle(&[request], DOUBT).await;
            let is_whole = settled.as_ref().is_ok_and(
                |settled| matches!(settled.as_slice(), [Settled::KeptBack(ids)] if ids.is_empty()),
            );
            if !is_whole || !started.as_ref().is_ok_and(|started| started.len() == 1) {
                eprintln!("lease {lease_id} was not settled: {started:?}, {settled:?}");
            }
            drop(permit);
        });
    }
    let _all_settled = settling.acquire_many(2).await?;
    Ok(())
}
