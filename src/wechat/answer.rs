//! WeChat's answers as bytes: what can be read of one for certain is read, whatever a gateway did to the rest.
//!
//! An answer is JSON in UTF-8 by WeChat's word. Seen in the wild are a byte order mark, texts in GBK or cut in the middle of
//! a character, raw control characters in texts, and numbers as text. None of them makes an errcode or a msgid doubtful, and
//! a doubt costs a message. What is not one JSON object after that is not guessed at.
//!
//! Start at [`read`].

use std::borrow::Cow;

use reqwest::StatusCode;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads an answer; `None`: it is not one JSON object of this form.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    readings(body).find_map(|text| serde_json::from_slice(&text).ok())
}

/// The bytes as they are, then as what a gateway may have made them of.
pub(super) fn readings(body: &[u8]) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let mended = [mend_utf8, mend_gbk];
    std::iter::once(Cow::Borrowed(body)).chain(mended.into_iter().map(move |mend| {
        let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
        let mut text = mend(body);
        // Blanks instead: between tokens as good as any, and no text may hold one unescaped.
        text.iter_mut()
            .filter(|byte| byte.is_ascii_control())
            .for_each(|byte| *byte = b' ');
        Cow::Owned(text)
    }))
}

fn mend_utf8(body: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(body).into_owned().into_bytes()
}

/// Puts U+FFFD for each character of GBK. The second byte of one may look like a backslash or a brace, never like a quote.
fn mend_gbk(body: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(body.len());
    let mut bytes = body.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte.is_ascii() {
            text.push(byte);
            continue;
        }
        bytes.next_if(|second| (0x40..=0xfe).contains(second));
        text.extend_from_slice("\u{fffd}".as_bytes());
    }
    text
}

/// An integer, as a number or as its digits in a text.
pub(super) fn integer(raw: &RawValue) -> Option<i64> {
    let text = raw.get();
    let digits = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text);
    let first = digits.strip_prefix('-').unwrap_or(digits).bytes().next()?;
    first.is_ascii_digit().then(|| digits.parse().ok())?
}

/// For `deserialize_with`: as [`integer`]; null is none.
pub(super) fn optional_integer<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<i64>, D::Error> {
    let Some(raw) = Option::<Box<RawValue>>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let read = integer(&raw);
    read.map(Some)
        .ok_or_else(|| D::Error::custom("not an integer"))
}

/// What an answer that could not be read is, in words and without any of its text.
pub(super) fn describe(status: StatusCode, body: &[u8]) -> String {
    let start = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let start = start.trim_ascii_start();
    let what = match start.first() {
        None if body.is_empty() => "an empty body",
        None => "a blank body",
        Some(b'<') => "an HTML or XML page instead of JSON",
        Some(b'{')
            if readings(body).any(|text| serde_json::from_slice::<Object>(&text).is_ok()) =>
        {
            "a JSON object of another form"
        }
        Some(b'{') => "JSON that breaks off or is malformed",
        Some(_) => "a body that is not a JSON object",
    };
    format!("HTTP status {} with {what}", status.as_u16())
}

type Object = serde_json::Map<String, serde_json::Value>;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Answer {
        #[serde(default, deserialize_with = "optional_integer")]
        errcode: Option<i64>,
    }

    fn errcode(body: &[u8]) -> Option<Option<i64>> {
        read::<Answer>(body).map(|answer| answer.errcode)
    }

    #[test]
    fn what_a_gateway_did_to_texts_does_not_hide_a_number() {
        for body in [
            &b"{\"errcode\":43101,\"errmsg\":\"ok\"}"[..],
            b"\xef\xbb\xbf{\"errcode\":43101}",
            b"{\"errcode\":\"43101\"}",
            b"{\"errcode\":43101,\"errmsg\":\"a\nb\tc\x01\x7f\"}",
            b"{\"errcode\":43101}\r\n\0\0",
            // "用户拒绝" in GBK, and characters of it whose second byte is a backslash, also before a quote.
            b"{\"errcode\":43101,\"errmsg\":\"\xd3\xc3\xbb\xa7\xbe\xdc\xbe\xf8\"}",
            b"{\"errmsg\":\"\x95\x5c\x81\x7d\xd5\x5c\",\"errcode\":43101}",
            // UTF-8 that was cut in the middle of a character, or begins there.
            b"{\"errcode\":43101,\"errmsg\":\"\xe6\x9d\"}",
            b"{\"errcode\":43101,\"errmsg\":\"\xe6\"}",
            b"\xef\xbb\xbf{\"errcode\":\"43101\",\"errmsg\":\"\xd3\xc3\n\"}",
        ] {
            assert_eq!(errcode(body), Some(Some(43101)), "{}", body.escape_ascii());
        }
        assert_eq!(errcode(b"{\"errcode\":\"-1\"}"), Some(Some(-1)));
        assert_eq!(errcode(b"{\"errcode\":null}"), Some(None));
        assert_eq!(errcode(b"{}"), Some(None));
    }

    #[test]
    fn what_is_not_certain_is_not_read() {
        for body in [
            &b""[..],
            b"{\"errcode\":\"\"}",
            b"{\"errcode\":\"0.0\"}",
            b"{\"errcode\":\"0 \"}",
            b"{\"errcode\":\"+0\"}",
            b"{\"errcode\":\"ok\"}",
            b"{\"errcode\":true}",
            b"{\"errcode\":[0]}",
            b"{\"errcode\":99999999999999999999}",
            b"{\"errcode\":0,\"errcode\":43101}",
            b"{\"errcode\":0}{\"errcode\":0}",
            b"{\"errcode\":0",
            b"{\"errcode\":0,\"errmsg\":\"\xd3\xc3",
            b"\xff\xfe{\0\"\0",
        ] {
            assert_eq!(errcode(body), None, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn what_cannot_be_read_is_called_what_it_is_without_its_text() {
        for (body, what) in [
            ("", "an empty body"),
            (" \r\n", "a blank body"),
            ("\u{feff}<html>secret", "an HTML or XML page"),
            (r#"{"access_token":"secret""#, "breaks off or is malformed"),
            (r#"{"access_token":7}"#, "an object of another form"),
            ("secret", "not a JSON object"),
        ] {
            let words = describe(StatusCode::OK, body.as_bytes());
            let what = what.replace("an object", "a JSON object");
            assert!(words.contains(&what) && words.contains("200"), "{words}");
            assert!(!words.contains("secret"), "{words}");
        }
    }
}
