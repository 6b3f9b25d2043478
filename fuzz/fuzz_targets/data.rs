//! A row's `data` on its way to WeChat: read and written by the worker, then judged by the fake. What is written is JSON
//! of texts in long form, no larger than a small multiple of what was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use wxnotify::simulate::field;
use wxnotify::wechat::message;

fuzz_target!(|data: &str| {
    let mut body = b"{".to_vec();
    if message::write_data(&mut body, data).is_err() {
        return;
    }
    body.push(b'}');
    assert!(body.len() <= 8 * data.len() + 64);
    let sent: Value = serde_json::from_slice(&body).expect("JSON");
    for (key, member) in sent.as_object().expect("an object") {
        let value = member["value"].as_str().expect("a text");
        let taken = field::check(key, value, &[]).is_ok();
        assert!(!taken || !value.contains('\n'), "{key}");
    }
});
