//! wxnotify: a durable notification queue worker for WeChat mini-program subscription messages.

pub mod config;
pub mod postgres;
pub mod store;
