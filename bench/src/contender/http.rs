//! The ceiling: requests as fast as one client makes them, nothing recorded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::courier::Courier;
use crate::message;

pub async fn drain(courier: Courier, rows: u64, concurrency: usize) -> anyhow::Result<()> {
    // Bodies are made beforehand, as they lie ready in a queue.
    let bodies: Vec<Vec<u8>> = (1..=rows)
        .map(|number| serde_json::to_vec(&message::body(number)))
        .collect::<Result<_, _>>()?;
    let bodies = Arc::new(bodies);
    let next = Arc::new(AtomicU64::new(0));
    let mut slots = tokio::task::JoinSet::new();
    for _ in 0..concurrency {
        let (courier, bodies, next) = (courier.clone(), bodies.clone(), next.clone());
        slots.spawn(async move {
            loop {
                let number = usize::try_from(next.fetch_add(1, Ordering::Relaxed))?;
                let Some(body) = bodies.get(number) else {
                    return anyhow::Ok(());
                };
                courier.send(body.clone()).await?;
            }
        });
    }
    while let Some(slot) = slots.join_next().await {
        slot??;
    }
    Ok(())
}
