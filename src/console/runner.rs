//! Does the running batches, a part at a time, as whoever started them. Several consoles may do so at once: a part is one transaction, and
//! who finds its batch locked leaves it to the other.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::Console;
use super::visit::{Role, store_of};
use crate::store::verbs::Audit;
use crate::store::{Store, StoreError};

/// Rows of one part.
const PART_ROWS: i32 = 200;
/// How long to wait when there was nothing to do, or the pace allowed nothing.
const REST: Duration = Duration::from_millis(500);
/// How long one part may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs until it is aborted.
pub(super) async fn run(console: Arc<Console>) {
    let store = console.store.beside(1, PATIENCE);
    loop {
        match do_parts(&store).await {
            Ok(0) => tokio::time::sleep(REST).await,
            Ok(_) => {}
            Err(error) => {
                warn!("A batch waits: {error}");
                tokio::time::sleep(REST * 4).await;
            }
        }
    }
}

/// One part of each running batch. How many rows were done.
async fn do_parts(store: &Store) -> Result<i32, StoreError> {
    let mut done = 0;
    for batch in store.running_batches().await? {
        // Started on a command line: it is done there.
        let Some(person) = batch.person() else {
            continue;
        };
        let acting = store_of(store, person, Role::Operator, PATIENCE);
        let audit = Audit {
            actor: String::new(),
            note: None,
        };
        done += acting.step_batch(batch.id, PART_ROWS, &audit).await?;
    }
    Ok(done)
}
