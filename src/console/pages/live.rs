//! Tells open pages that it is time to look again; one stream a page, and no question to the database.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, Sse};
use futures::Stream;

use crate::console::visit::Visit;

/// A page that moves is made anew this often.
const EVERY: Duration = Duration::from_secs(5);

pub(in crate::console) async fn stream(
    visit: Visit,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let ticks = futures::stream::unfold(visit.console.stop.clone(), |stop| async move {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {
                let tick = Event::default().event("tick").data("");
                Some((Ok(tick), stop))
            }
            () = stop.cancelled() => None,
        }
    });
    Sse::new(ticks)
}
