//! wxnotify: a durable notification queue worker for WeChat mini-program subscription messages.
//!
//! # The data's way
//!
//! ```text
//!  a business system                     PostgreSQL                                WeChat
//!  INSERT ──────────────► pending_notifications ◄── events ◄── http::callback ◄── pushes
//!                               │         ▲
//!                  store.lease  │         │ store.settle
//!                               ▼         │
//!                        worker::leasing  worker::settling
//!                               │         ▲
//!                 store.start   │         │ Conclusion: Outcome + Effects
//!                               ▼         │
//!                        worker::sending ─┴─► delivery ──► wechat ──── POST …/subscribe/send ──►
//!                                             judge(reply, rule, row) ◄── Reply ◄───────────────
//! ```
//!
//! A row is *due*, is *leased* with others of its lane, is *started* (committed to disk before its request may leave), gets one
//! *attempt*, whose *outcome* is *settled*. What was started and not settled when a worker died is *in doubt*.
//!
//! # The modules, in reading order
//!
//! | module | what it owns |
//! |---|---|
//! | [`cli`], [`exit`] | arguments; from `main` to [`worker::run`]; how a command ends |
//! | [`worker`] | `run`, `work`, and the tasks: `starting`, `leasing` (the loop), `sending`, `settling`, `slots`, `waking`, `logins`, `reminders`, `checking`, `upkeep` |
//! | [`notification`] | the domain: a row on its way out, an outcome on its way back |
//! | [`delivery`] | the way of one message; judgement, service cards, login codes, tokens, the breaker |
//! | [`reminder`] | the time of reminders: which instants a calendar means. Pure |
//! | [`retry`], [`concurrency`] | when the next attempt comes; how many sends at once. Pure |
//! | [`store`] | every SQL statement of the worker and the commands: one function here, one file in `sql/<subject>/` |
//! | [`schema`] | tables and code in the database: `migrations/`, `sql/schema/` |
//! | [`wechat`] | the client for WeChat's API, its replies and errcodes, the cipher of its callbacks |
//! | [`token_keeper`] | one shared access token per mini-program |
//! | [`lookups`] | what WeChat is asked now and then: templates, quotas, calls by their rid |
//! | [`http`] | the listener: health, metrics, callbacks |
//! | [`config`], [`address`] | settings, each typed once; where the database is |
//! | [`telemetry`] | logs and metrics |
//! | [`operate`] | what operators do and read: `verbs` (no arguments, no text), `reports`, `doctor`, `commands` |
//! | [`console`] | pages for operators: people, sessions, verbs, batches |
//! | [`simulate`] | the fake WeChat, for tests, demo and other programs |
//! | [`demo`] | everything at once, and the proof |
//! | [`postgres`] | a throwaway Postgres |
//! | [`legible`], [`limits`], [`lock`], [`reconnect`], [`signals`], [`failpoint`] | small things: text of others for people, file descriptors, a mutex's lock, waits for what is away, signals, places where tests break the program |
//!
//! # Who may know whom
//!
//! * [`store`] knows no HTTP and [`wechat`] no SQL; `store` takes from `wechat` only its words: errcode rules, listed templates, a quota.
//! * Policy takes the time and does no I/O: [`retry`], [`concurrency`], [`reminder`], `delivery::judgement`, `delivery::breaker`, [`wechat::errcode`].
//! * [`config`] knows nobody who uses it. [`http`] does not know [`worker`].
//! * The fake signs and seals its callbacks with code of its own, since it is to test ours.
//! * Statements are SQL's business: none outside `store` and `schema`, but where [`demo`] plays a business system and `worker::waking` listens.
//! * There is no circle between modules. `tests/it/tidy.rs` holds all of this true.
//!
//! # The words
//!
//! | word | is |
//! |---|---|
//! | *lane* | the rows of one mini-program and urgency (0 urgent, 1 normal, 2 bulk): what is leased from |
//! | *front* | the first row of a lane; a *look* asks for the fronts of all lanes |
//! | *hot* | said of a lane that may have more due rows than were seen |
//! | *rest* | how long a lane whose due rows could not be leased is left alone |
//! | *watermark* | where the last pick of a lane ended; a *sweep* starts from the front instead |
//! | *slot* | a task that sends one row after the other |
//! | *bell* | what an INSERT rings (NOTIFY) when a worker sleeps and has armed it |
//! | *fence* | what tells a live holder from one that was replaced: a worker's epoch, a lease's start; for the bell, the transaction from which on every INSERT sees it armed |
//! | *rescue* | makes due rows or doubts of what dead workers left |
//! | *weigh* | ends doubts by evidence that came since |
//! | *tidy* | ends or parks rows at a front that cannot be leased now |
//! | *park* | to let a row wait without counting an attempt, and say for what |
//! | *pair* | one user and template: while one row of it is in doubt, no other is sent |
//! | *obstacle* | what others hung on our tables and refuses a row |
//! | *dispute* | an answer that came for two rows, so that it may be neither's |
//! | *probe* | the one row that is risked after a pause; a *sound* answer to it ends the pause |
//! | *fire* | a time of a reminder's schedule that has come, and the rows made for it; *chunk*: those made in one transaction |
//! | *tap* | a user's accept in the mini-program: one credit |
//! | *stranded* | rows on a template that WeChat does not list any more |
//! | *lookup* | a question to WeChat that is due, claimed by one worker |
//! | *claim* | the right to ask or fetch something, which others respect for a while |
//!
//! # The statuses of a row
//!
//! ```text
//!             arm                its time comes           a worker starts it
//!   held ──────────► scheduled ─────────────────► due ───────────────────────► sending
//!    │                   ▲                         ▲ ▲                            │
//!    │                   │ send_at to come         │ │ released                   │ WeChat's answer, or none
//!    │                   │                         │ └────────────────────────────┤
//!    │                retrying ◄───────────────────┼────────── retry ─────────────┤
//!    │                paused   ◄── app, template, user, refused ── park ──────────┤
//!    │                   └────── its delay or the pause ends ─► due               │
//!    │                                             │                              │
//!    │                in_doubt ◄──────── no readable answer, or its worker died ──┤
//!    │                   │ evidence, its window, an operator                      │
//!    ▼                   ▼                         ▼                              ▼
//!  final: sent · presumed_sent · dead · expired · cancelled · duplicate · unresolved
//! ```
//!
//! Of the final ones, `presumed_sent` and `unresolved` come out of a doubt alone; a row in doubt never ends `expired` or
//! `cancelled`, which would claim that nothing was sent. `dead`, `expired`, `cancelled` and `unresolved` rows can be redriven:
//! a new row then stands for them.

pub mod address;
pub mod cli;
pub mod concurrency;
pub mod config;
pub mod console;
pub mod delivery;
pub mod demo;
pub mod exit;
pub(crate) mod failpoint;
pub mod http;
pub(crate) mod legible;
pub mod limits;
pub(crate) mod lock;
pub mod lookups;
pub mod notification;
pub mod operate;
pub mod postgres;
pub(crate) mod reconnect;
pub mod reminder;
pub mod retry;
pub mod schema;
pub mod signals;
pub mod simulate;
pub mod store;
pub mod telemetry;
pub mod token_keeper;
pub mod wechat;
pub mod worker;
