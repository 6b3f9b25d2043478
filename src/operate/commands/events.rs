//! `wxnotify event`: events of WeChat that reached another program's callback URL.

use std::io::Read;
use std::time::Duration;

use clap::Subcommand;
use serde_json::{Value, json};

use super::OperateError;
use crate::operate::report::Report;
use crate::operate::words::said;
use crate::store::{ClaimPolicy, Store};
use crate::wechat::callback::document;

/// Longest input, in bytes: some 100,000 events.
const INPUT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Commands on WeChat's events.
#[derive(Debug, Subcommand)]
pub enum EventCommand {
    /// Store decrypted events from standard input: one XML or JSON document, or JSON documents one after the other
    #[command(
        after_help = "Example: wxnotify event ingest wx1111222233334444 < event.json
In SQL: select wxnotify_ingest_event('wx1111222233334444', '{\"Event\": \"subscribe_msg_sent_event\", …}')"
    )]
    Ingest {
        /// The mini-program the events are about
        appid: String,
    },
}

pub(super) async fn run(command: EventCommand, store: &Store) -> anyhow::Result<Report> {
    let EventCommand::Ingest { appid } = command;
    let mut input = Vec::new();
    std::io::stdin()
        .lock()
        .take(INPUT_BYTES_MAX + 1)
        .read_to_end(&mut input)?;
    ingest(&appid, &input, store).await
}

/// Stores every event of `input`, then applies what follows from them, as a worker would.
async fn ingest(appid: &str, input: &[u8], store: &Store) -> anyhow::Result<Report> {
    let events = read_events(input)?;
    let (mut stored, mut known, mut ignored) = (0, 0, 0);
    for event in &events {
        match store.ingest_event(appid, event).await? {
            None => ignored += 1,
            Some(0) => known += 1,
            Some(_) => stored += 1,
        }
    }
    let settled = store.weigh().await?;
    store.apply_events().await?;
    // Pairs and parks; whether an unclaimed accept is held is for the workers' setting.
    store
        .apply_answers(ClaimPolicy {
            window: Duration::from_secs(600),
            holds_unclaimed: false,
        })
        .await?;
    let mut report = Report::new(json!({
        "appid": appid, "stored": stored, "known": known, "ignored": ignored, "doubts_settled": settled,
    }));
    report.line(said(
        format!("{stored} events stored, {known} were known, {ignored} are of no interest; {settled} doubts settled."),
        format!("保存 {stored} 个事件，{known} 个已有，{ignored} 个无关；{settled} 个结果未知的消息有了结果。"),
    ));
    Ok(report)
}

/// One document of either format, or JSON objects one after the other.
fn read_events(input: &[u8]) -> Result<Vec<Value>, OperateError> {
    if input.len() as u64 > INPUT_BYTES_MAX {
        return Err(refused("longer than 64 MiB: split it"));
    }
    let text = std::str::from_utf8(input).map_err(|_| refused("not UTF-8"))?;
    if !text.trim_start().starts_with('{') {
        let event = document::read(text).map_err(|error| refused(&error.to_string()))?;
        return Ok(vec![event]);
    }
    serde_json::Deserializer::from_str(text)
        .into_iter::<Value>()
        .map(|event| {
            // Read once more on its own, so that it is cleaned as a callback's would be.
            event
                .map_err(|_| refused("not well-formed JSON"))
                .and_then(|event| {
                    document::read(&event.to_string()).map_err(|error| refused(&error.to_string()))
                })
        })
        .collect()
}

fn refused(why: &str) -> OperateError {
    OperateError::usage(
        format!("standard input holds no event: {why}"),
        "give the decrypted event as WeChat sent it, XML or JSON",
    )
}
