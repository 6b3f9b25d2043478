//! An event in JSON. What is read is no larger than a small multiple of what was sent.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wxnotify::wechat::callback::document;

fuzz_target!(|text: &str| {
    let text = format!("{{{text}");
    if let Ok(event) = document::read(&text) {
        assert!(event.to_string().len() <= 8 * text.len() + 64);
    }
});
