//! The body of a send request, built once as bytes: raw UTF-8, fields in WeChat's order.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::notification::Notification;

/// A row whose `data` is no message. It was not sent and will never be sendable; correct a copy of it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MessageError {
    /// Not a JSON object.
    #[error("data is not a JSON object")]
    NotAnObject,
    /// A field that is neither a text, a number, a boolean nor an object with such a `value`.
    #[error("data: field {field} is neither a text or number nor {{\"value\": …}} with one")]
    NotAValue {
        /// The field's key.
        field: String,
    },
    /// The row's `extra` is not what its kind needs.
    #[error("extra is not what a row of kind {kind} needs")]
    BadExtra {
        /// The row's kind.
        kind: &'static str,
    },
    /// A service card whose `template_id` is no number.
    #[error("template_id is no notify_type of a service card")]
    NotANotifyType,
}

pub(super) fn body(notification: &Notification) -> Result<Vec<u8>, MessageError> {
    let mut body = Vec::with_capacity(notification.data.len() + 320);
    body.extend_from_slice(b"{\"touser\":");
    write_string(&mut body, notification.openid.expose());
    body.extend_from_slice(b",\"template_id\":");
    write_string(&mut body, &notification.template_id);
    if let Some(page) = &notification.page {
        body.extend_from_slice(b",\"page\":");
        write_string(&mut body, page);
    }
    body.extend_from_slice(b",\"miniprogram_state\":");
    write_string(&mut body, &notification.miniprogram_state);
    body.extend_from_slice(b",\"lang\":");
    write_string(&mut body, &notification.lang);
    body.extend_from_slice(b",\"data\":{");
    write_data(&mut body, &notification.data)?;
    body.extend_from_slice(b"}}");
    Ok(body)
}

/// Appends the members of `data`, a row's column, as WeChat takes them: every value a string in long form.
///
/// # Errors
///
/// `data` is no message; `body` is then incomplete.
pub fn write_data(body: &mut Vec<u8>, data: &str) -> Result<(), MessageError> {
    let fields: Fields<'_> = serde_json::from_str(data).map_err(|_| MessageError::NotAnObject)?;
    for (index, (key, value)) in fields.0.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        write_string(body, key);
        body.extend_from_slice(b":{\"value\":");
        write_value(body, value).ok_or_else(|| MessageError::NotAValue {
            field: key.to_string(),
        })?;
        body.push(b'}');
    }
    Ok(())
}

/// Writes one field's value as a JSON string: WeChat takes no numbers.
fn write_value(body: &mut Vec<u8>, value: &RawValue) -> Option<()> {
    let text = value.get();
    match text.as_bytes().first()? {
        b'"' => write_raw_string(body, text)?,
        b'-' | b'0'..=b'9' | b't' | b'f' => {
            body.push(b'"');
            body.extend_from_slice(text.as_bytes());
            body.push(b'"');
        }
        b'{' => {
            let inner: LongForm<'_> = serde_json::from_str(text).ok()?;
            if inner.value.get().starts_with('{') {
                return None;
            }
            write_value(body, inner.value)?;
        }
        _ => return None,
    }
    Some(())
}

/// Copies a JSON string, resolving escapes: WeChat refuses `\uXXXX` where the character itself will do.
fn write_raw_string(body: &mut Vec<u8>, text: &str) -> Option<()> {
    if text.contains('\\') {
        let plain: String = serde_json::from_str(text).ok()?;
        write_string(body, &plain);
    } else {
        body.extend_from_slice(text.as_bytes());
    }
    Some(())
}

pub(super) fn write_string(body: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(body, text).expect("a text always serialises into memory");
}

#[derive(Deserialize)]
struct LongForm<'a> {
    #[serde(borrow)]
    value: &'a RawValue,
}

/// The fields of `data` in their order, borrowed from it.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(map.size_hint().unwrap_or(5));
                while let Some((Key(key), value)) = map.next_entry()? {
                    fields.push((key, value));
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(FieldsVisitor).map(Fields)
    }
}

/// A key borrowed where it holds no escape.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::notification::sample;

    fn body_of(data: &str) -> Result<String, MessageError> {
        let mut notification = sample();
        notification.data = data.into();
        body(&notification).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn the_fields_stand_in_wechats_order() {
        assert_eq!(
            body_of(r#"{"thing2": "手冲咖啡两杯"}"#).unwrap(),
            r#"{"touser":"oUser0000000000000000000001","template_id":"TmplAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA1","page":"pages/order/detail?id=42","miniprogram_state":"formal","lang":"zh_CN","data":{"thing2":{"value":"手冲咖啡两杯"}}}"#
        );
    }

    #[test]
    fn a_message_without_page_names_none() {
        let mut notification = sample();
        notification.page = None;
        let body = String::from_utf8(body(&notification).unwrap()).unwrap();
        assert!(!body.contains("page"), "{body}");
    }

    #[test]
    fn long_form_short_form_and_numbers_become_one_form() {
        for (data, sent) in [
            (r#"{"thing1": "a"}"#, json!({"thing1": {"value": "a"}})),
            (
                r#"{"thing1": {"value": "a"}}"#,
                json!({"thing1": {"value": "a"}}),
            ),
            (
                r##"{"thing1": {"color": "#f00", "value": "a"}}"##,
                json!({"thing1": {"value": "a"}}),
            ),
            (
                r#"{"number1": 12.50}"#,
                json!({"number1": {"value": "12.50"}}),
            ),
            (
                r#"{"number1": {"value": -3}}"#,
                json!({"number1": {"value": "-3"}}),
            ),
            (
                r#"{"thing1": "\u676f\"\n"}"#,
                json!({"thing1": {"value": "杯\"\n"}}),
            ),
            (r"{}", json!({})),
        ] {
            let sent_body: Value = serde_json::from_str(&body_of(data).unwrap()).unwrap();
            assert_eq!(sent_body["data"], sent, "{data}");
        }
    }

    #[test]
    fn no_escape_stands_for_a_character_that_needs_none() {
        assert!(body_of(r#"{"thing1": "\u676f"}"#).unwrap().contains('杯'));
    }

    #[test]
    fn data_that_is_no_message_is_refused_by_its_field() {
        for data in ["[]", "\"text\"", "12", "", "{"] {
            assert_eq!(
                body_of(data).unwrap_err(),
                MessageError::NotAnObject,
                "{data}"
            );
        }
        for data in [
            r#"{"thing1": null}"#,
            r#"{"thing1": []}"#,
            r#"{"thing1": {}}"#,
            r#"{"thing1": {"value": null}}"#,
            r#"{"thing1": {"value": {"value": "a"}}}"#,
        ] {
            let error = body_of(data).unwrap_err();
            assert_eq!(
                error,
                MessageError::NotAValue {
                    field: "thing1".into()
                },
                "{data}"
            );
        }
    }

    proptest! {
        #[test]
        fn every_text_reaches_wechat_unchanged(key in "[a-z_]{1,8}[0-9]{1,2}", text in any::<String>(), page in any::<String>()) {
            let mut notification = sample();
            notification.data = json!({&key: text}).to_string();
            notification.page = Some(page.clone());
            let sent: Value = serde_json::from_slice(&body(&notification).unwrap()).unwrap();
            prop_assert_eq!(&sent["data"][&key]["value"], &json!(text));
            prop_assert_eq!(&sent["page"], &json!(page));
        }
    }
}
