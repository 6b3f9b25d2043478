//! wxnotify: a durable notification queue worker for WeChat mini-program subscription messages.
