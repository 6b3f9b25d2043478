//! What must hold for any input: for the fuzzer, and for the kept seeds in `cargo test`.

use serde_json::Value;
use wxnotify::simulate::field;
use wxnotify::simulate::sealing::Seal;
use wxnotify::wechat::callback::cipher::AesKey;
use wxnotify::wechat::callback::{CallbackQuery, Push, Receiver, STORED_EVENTS, document, sign};
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
/// what was encrypted, which is then read as it would be unencrypted.
pub fn callback(data: &[u8]) {
    let key = AesKey::from_encoding_aeskey(AESKEY).expect("43 letters and digits");
    let plain = Receiver::new(APPID.to_owned(), TOKEN.into(), None);
    let safe = Receiver::new(APPID.to_owned(), TOKEN.into(), Some(key.clone()));
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (query, body) = data.split_at(end);
    let query = CallbackQuery::parse(&String::from_utf8_lossy(query));
    for receiver in [&plain, &safe] {
        assert!(receiver.read(&query, body, NOW).is_err(), "unsigned");
        assert!(receiver.verify_url(&query, NOW).is_err(), "unsigned");
    }
    let unencrypted = plain.read(&signed(None), body, NOW);
    let _ = key.decrypt(&String::from_utf8_lossy(body));
    let encrypted = Seal::of_key(AESKEY)
        .expect("43 letters and digits")
        .seal([7; 16], body, APPID);
    let decrypted = key.decrypt(&encrypted).expect("encrypted with this key");
    assert!(decrypted.message == body && decrypted.appid == APPID.as_bytes());
    let envelope = format!("<xml><Encrypt><![CDATA[{encrypted}]]></Encrypt></xml>");
    let event = safe.read(&signed(Some(&encrypted)), envelope.as_bytes(), NOW);
    if let Ok(Push::Event(event)) = &event {
        let name = event["Event"].as_str().expect("a name");
        assert!(STORED_EVENTS.contains(&name), "{name}");
        assert_no_nul(event);
    }
    // Without a key a member `Encrypt` is taken out or refused.
    if !body.windows(7).any(|name| name == b"Encrypt") && !body.contains(&b'\\') {
        assert_eq!(event, unencrypted);
    }
}

/// A row's `data` on its way to WeChat: read and written by the worker, then judged by the fake. What is written is JSON
/// of texts in long form, the texts of the row, no larger than a small multiple of what was read, and would be written
/// the same again.
pub fn data(data: &str) {
    let mut body = b"{".to_vec();
    if message::write_data(&mut body, data).is_err() {
        return;
    }
    body.push(b'}');
    assert!(body.len() <= 8 * data.len() + 64);
    let mut again = b"{".to_vec();
    let text = std::str::from_utf8(&body).expect("UTF-8");
    message::write_data(&mut again, text).expect("what was written is a message");
    again.push(b'}');
    assert!(again == body, "written otherwise the second time");
    let sent: Value = serde_json::from_slice(&body).expect("JSON");
    // Numbers that no double holds are refused here alone.
    let row: Value = serde_json::from_str(data).unwrap_or_default();
    for (key, member) in sent.as_object().expect("an object") {
        let value = member["value"].as_str().expect("a text");
        if let Value::String(text) = row[key].get("value").unwrap_or(&row[key]) {
            assert_eq!(value, text, "{key}");
        }
        let taken = field::check(key, value, &[]).is_ok();
        assert!(!taken || !value.contains('\n'), "{key}");
    }
}

/// An event in XML: as below, and what is read is the same when it comes as JSON.
pub fn xml(text: &str) {
    if let Some(event) = document(&format!("<{text}")) {
        assert_eq!(document::read(&event.to_string()), Ok(event));
    }
}

/// An event in JSON: as below.
pub fn json(text: &str) {
    document(&format!("{{{text}"));
}

/// What is read is an object without a NUL, no larger than a small multiple of what was sent.
fn document(text: &str) -> Option<Value> {
    let event = document::read(text).ok()?;
    assert!(event.is_object());
    assert!(event.to_string().len() <= 8 * text.len() + 64);
    assert_no_nul(&event);
    Some(event)
}

/// Postgres stores a NUL in no text.
fn assert_no_nul(value: &Value) {
    match value {
        Value::String(text) => assert!(!text.contains('\0'), "a NUL"),
        Value::Array(items) => items.iter().for_each(assert_no_nul),
        Value::Object(members) => {
            for (key, member) in members {
                assert!(!key.contains('\0'), "a NUL");
                assert_no_nul(member);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
