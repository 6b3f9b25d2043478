//! `wxnotify top`: the overview on a terminal, live; or once, for scripts.
//!
//! Start at [`watch`] for the live page, at [`look_once`] for the other.

pub mod page;

use std::io::IsTerminal;
use std::time::Duration;

use chrono::Utc;
use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{OperateError, explain_store_error};
use crate::operate::overview::{Overview, look};
use crate::operate::report::Report;
use crate::operate::words::{Lang, reader};
use crate::store::Store;
use page::{Page, draw, to_text};

/// The size of what is shown once.
const ONCE: (u16, u16) = (100, 40);
/// How long a key is waited for before the reader looks whether it is still wanted.
const KEY_POLL: Duration = Duration::from_millis(100);

/// `wxnotify top`
#[derive(Debug, Clone, Args)]
pub struct TopArgs {
    /// Only of this mini-program
    #[arg(long)]
    pub appid: Option<String>,
    /// Look every so many seconds
    #[arg(long, value_name = "SECS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub every: u64,
    /// Print it once and end; with --json as a document
    #[arg(long)]
    pub once: bool,
}

/// One look, as text or a document.
pub(super) async fn look_once(args: &TopArgs, store: &Store) -> anyhow::Result<Report> {
    if !args.once {
        return Err(needs_terminal().into());
    }
    let seen = look(store, args.appid.as_deref()).await?;
    let mut report = Report::new(document(&seen));
    let page = Page {
        seen: Some(&seen),
        trouble: None,
        lang: reader(),
        every: Duration::ZERO,
        is_held: false,
        shows_keys: false,
        scrolled: 0,
        is_coloured: false,
        now: Utc::now(),
    };
    let mut lines = to_text(&page, ONCE.0, ONCE.1);
    // The keys are for the live page.
    lines.pop();
    while lines
        .last()
        .is_some_and(|line| line.trim_matches(['│', ' ']).is_empty())
    {
        lines.pop();
    }
    for line in lines {
        report.line(line);
    }
    Ok(report)
}

fn needs_terminal() -> OperateError {
    OperateError::usage(
        "top: standard output is no terminal",
        "`wxnotify top --once`, with --json for scripts",
    )
}

/// What is seen, for scripts; times are UTC.
fn document(seen: &Overview) -> Value {
    let held = seen.doubts.iter().filter(|doubt| doubt.on_doubt == "hold");
    json!({
        "at": seen.at, "needs": seen.needs(Lang::En).iter().map(|need| json!({
            "now": need.now, "sentence": need.sentence, "why": need.why, "since": need.since,
        })).collect::<Vec<_>>(),
        "backlog": seen.backlog, "dead": seen.dead, "pauses": seen.pauses, "tokens": seen.tokens, "quotas": seen.quotas,
        "workers": seen.workers, "blockers": seen.blockers, "minutes": seen.minutes, "latency": seen.latency,
        "doubts": { "count": seen.doubts.len(), "held": held.count(), "oldest": seen.doubts.iter().map(|doubt| doubt.in_doubt_since).min() },
    })
}

/// What the keys have asked for.
#[derive(Debug, Default)]
struct Asked {
    is_held: bool,
    shows_keys: bool,
    scrolled: usize,
}

/// What a key means.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Quit,
    Look,
    Redraw,
}

impl Asked {
    fn press(&mut self, code: KeyCode, modifiers: KeyModifiers) -> Wish {
        match code {
            KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => return Wish::Quit,
            KeyCode::Esc if self.shows_keys => self.shows_keys = false,
            KeyCode::Char('q') | KeyCode::Esc => return Wish::Quit,
            KeyCode::Char('r') => return Wish::Look,
            KeyCode::Char(' ' | 'p') => {
                self.is_held = !self.is_held;
                if !self.is_held {
                    return Wish::Look;
                }
            }
            KeyCode::Char('?' | 'h') => self.shows_keys = !self.shows_keys,
            KeyCode::Down | KeyCode::Char('j') => self.scrolled += 1,
            KeyCode::Up | KeyCode::Char('k') => self.scrolled = self.scrolled.saturating_sub(1),
            KeyCode::Home => self.scrolled = 0,
            _ => {}
        }
        Wish::Redraw
    }
}

/// The live page, until it is left.
pub(super) async fn watch(args: &TopArgs, store: &Store, is_coloured: bool) -> anyhow::Result<()> {
    if !std::io::stdout().is_terminal() {
        return Err(needs_terminal().into());
    }
    // Restores the terminal in a panic too.
    let mut terminal = ratatui::try_init()?;
    let ended = show_until_left(args, store, is_coloured, &mut terminal).await;
    ratatui::restore();
    ended
}

async fn show_until_left(
    args: &TopArgs,
    store: &Store,
    is_coloured: bool,
    terminal: &mut DefaultTerminal,
) -> anyhow::Result<()> {
    let every = Duration::from_secs(args.every);
    let lang = reader();
    let mut events = read_events();
    let mut asked = Asked::default();
    let mut seen: Option<Overview> = None;
    let mut trouble: Option<String> = None;
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut looking = None;
    loop {
        terminal.draw(|frame| {
            let page = Page {
                seen: seen.as_ref(),
                trouble: trouble.as_deref(),
                lang,
                every,
                is_held: asked.is_held,
                shows_keys: asked.shows_keys,
                scrolled: asked.scrolled,
                is_coloured,
                now: Utc::now(),
            };
            draw(&page, frame.area(), frame.buffer_mut());
        })?;
        let answered = async {
            match &mut looking {
                Some(looking) => looking.await,
                None => std::future::pending().await,
            }
        };
        let mut looks = false;
        tokio::select! {
            event = events.recv() => match event {
                None => return Ok(()),
                Some(Event::Key(key)) if key.kind == KeyEventKind::Press => match asked.press(key.code, key.modifiers) {
                    Wish::Quit => return Ok(()),
                    Wish::Look => looks = true,
                    Wish::Redraw => {}
                },
                Some(_) => {}
            },
            _ = ticks.tick() => looks = !asked.is_held,
            answer = answered => {
                looking = None;
                match answer {
                    Ok(answer) => {
                        seen = Some(answer);
                        trouble = None;
                    }
                    Err(error) => trouble = Some(explain_store_error(&error).message),
                }
            }
        }
        if looks && looking.is_none() {
            looking = Some(Box::pin(look(store, args.appid.as_deref())));
        }
    }
}

/// Keys and resizes, read by a thread of their own, since the terminal is waited for without tokio.
fn read_events() -> mpsc::Receiver<Event> {
    let (events, received) = mpsc::channel(16);
    std::thread::spawn(move || {
        while !events.is_closed() {
            match event::poll(KEY_POLL) {
                Ok(false) => {}
                Ok(true) => {
                    let sent = event::read().map(|event| events.blocking_send(event).is_ok());
                    if !sent.unwrap_or(false) {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    });
    received
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_quit_hold_still_scroll_and_explain_themselves() {
        let mut asked = Asked::default();
        let mut press = |code| asked.press(code, KeyModifiers::NONE);
        assert_eq!(press(KeyCode::Char(' ')), Wish::Redraw);
        assert_eq!(press(KeyCode::Char(' ')), Wish::Look, "it goes on");
        assert_eq!(press(KeyCode::Char('r')), Wish::Look);
        assert_eq!(press(KeyCode::Char('?')), Wish::Redraw);
        assert_eq!(
            press(KeyCode::Esc),
            Wish::Redraw,
            "the keys are closed first"
        );
        assert_eq!(press(KeyCode::Esc), Wish::Quit);
        assert_eq!(press(KeyCode::Up), Wish::Redraw);
        assert_eq!(press(KeyCode::Down), Wish::Redraw);
        assert_eq!(asked.scrolled, 1);
        assert_eq!(
            asked.press(KeyCode::Char('c'), KeyModifiers::CONTROL),
            Wish::Quit
        );
        assert_eq!(
            asked.press(KeyCode::Char('c'), KeyModifiers::NONE),
            Wish::Redraw
        );
    }
}
