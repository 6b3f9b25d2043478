//! wxnotify: a durable notification queue worker for WeChat mini-program subscription messages.

pub mod cli;
pub mod concurrency;
pub mod config;
pub mod delivery;
pub mod demo;
pub(crate) mod failpoint;
pub mod http;
pub(crate) mod legible;
pub mod limits;
pub(crate) mod lock;
pub mod lookups;
pub mod notification;
pub mod operate;
pub mod postgres;
pub mod retry;
pub mod schema;
pub mod signals;
pub mod simulate;
pub mod store;
pub mod telemetry;
pub mod token_keeper;
pub mod wechat;
pub mod worker;
