//! What must hold for any input: for the fuzzer, and for the kept seeds in `cargo test`.

use serde_json::Value;
use wxnotify::simulate::field;
use wxnotify::wechat::callback::cipher::AesKey;
use wxnotify::wechat::callback::{CallbackQuery, Receiver, document, sign};
use wxnotify::wechat::message;

const APPID: &str = "wx5823bf96d3bd56c7";
const TOKEN: &str = "notifyQueueTok01";
const AESKEY: &str = "q1Os1ZMe0nG28KUEx9lg3HjK7V5QyXvi212fzsgDqg0";
const NOW: i64 = 1_760_000_000;

fn signed(encrypted: Option<&str>) -> CallbackQuery {
    let timestamp = NOW.to_string();
    CallbackQuery {
        signature: sign(TOKEN, &timestamp, "1", None),
        msg_signature: sign(TOKEN, &timestamp, "1", encrypted),
        encrypt_type: "aes".to_owned(),
        timestamp,
        nonce: "1".to_owned(),
        echostr: None,
    }
}

/// A whole request: the first line is the query, the rest the body. The body is also taken as rightly signed, and as
/// what was encrypted.
pub fn callback(data: &[u8]) {
    let key = AesKey::from_encoding_aeskey(AESKEY).expect("43 letters and digits");
    let plain = Receiver::new(APPID.to_owned(), TOKEN.into(), None);
    let safe = Receiver::new(APPID.to_owned(), TOKEN.into(), Some(key.clone()));
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (query, body) = data.split_at(end);
    let query = CallbackQuery::parse(&String::from_utf8_lossy(query));
    assert!(plain.read(&query, body, NOW).is_err(), "unsigned");
    assert!(safe.read(&query, body, NOW).is_err(), "unsigned");
    let _ = plain.read(&signed(None), body, NOW);
    let _ = key.decrypt(&String::from_utf8_lossy(body));
    let encrypted = key.encrypt([7; 16], body, APPID);
    let envelope = format!("<xml><Encrypt><![CDATA[{encrypted}]]></Encrypt></xml>");
    let _ = safe.read(&signed(Some(&encrypted)), envelope.as_bytes(), NOW);
}

/// A row's `data` on its way to WeChat: read and written by the worker, then judged by the fake. What is written is JSON
/// of texts in long form, no larger than a small multiple of what was read.
pub fn data(data: &str) {
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
}

/// An event in XML. What is read is no larger than a small multiple of what was sent.
pub fn xml(text: &str) {
    document(&format!("<{text}"));
}

/// An event in JSON. What is read is no larger than a small multiple of what was sent.
pub fn json(text: &str) {
    document(&format!("{{{text}"));
}

fn document(text: &str) {
    if let Ok(event) = document::read(text) {
        assert!(event.to_string().len() <= 8 * text.len() + 64);
    }
}
