//! The published vectors, our own, and everything that must be refused.

use proptest::prelude::*;
use serde_json::json;

use super::document::DocumentError;
use super::*;

/// WeChat's message-push page: token `AAAAA`, key 43 × `A`.
const PAGE_APPID: &str = "wxba5fad812f8e6fb9";
const V1: &str = "+qdx1OKCy+5JPCBFWw70tm0fJGb2Jmeia4FCB7kao+/Q5c/ohsOzQHi8khUOb05JCpj0JB4RvQMkUyus8TPxLKJGQqcvZqzDpVzazhZv6JsXUnnR8XGT740XgXZUXQ7vJVnAG+tE8NUd4yFyjPy7GgiaviNrlCTj+l5kdfMuFUPpRSrfMZuMcp3Fn2Pede2IuQrKEYwKSqFIZoNqJ4M8EajAsjLY2km32IIjdf8YL/P50F7mStwntrA2cPDrM1kb6mOcfBgRtWygb3VIYnSeOBrebufAlr7F9mFUPAJGj04=";
/// A token, key and appid of our own; every vector signed at this moment with this nonce.
const TOKEN: &str = "notifyQueueTok01";
const AESKEY: &str = "q1Os1ZMe0nG28KUEx9lg3HjK7V5QyXvi212fzsgDqg0";
const APPID: &str = "wx5823bf96d3bd56c7";
const NOW: i64 = 1_760_000_001;
const NONCE: &str = "987654321";
const O1: &str = "3YxdvoH5s3Qq4dkRiDwKZ8LaVVOZwyAlaCUX/bsZXF5lSzId+qh1b24iLnvlepPqS3fYOll+rcOYR7S+4fgaT+RMy9SzSVV2648BVUDlJUfr8D83RFxHYWQK89TIw6kBFsFyLOPpMh2yN5EWjzgDhv08yUVO0tRi0P6dJ55BQNNP4bKoqhUFyKaterqk8UZq7EPgXgjwUytBpcIAjXRRg+QvQ58P99uZeQm8JMo5R3sC0p94g8QXzBnNeXZpegvjlA3TIFClP1qywaP1Vv0jaz3laBthUzHiNU3TLdab5J4vY2yvd9DZEOSF5nQozibPse7WJ7ZUq8nnfmGjbL3iYG2xNKO/36hQMMfWftOfZnA62QwI5UbI/RGIwIbOBgdZGGtXZ9eUSQXp6x+c2lDLnETLHpweGSei/shqbfbep24=";
const O1_MESSAGE: &str = r#"{"ToUserName":"gh_0123456789ab","FromUserName":"oUser0000000000000000000001","CreateTime":1760000000,"MsgType":"event","Event":"subscribe_msg_popup_event","List":{"TemplateId":"TmplAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA1","SubscribeStatusString":"accept","PopupScene":"0"}}"#;

fn key(encoded: &str) -> AesKey {
    AesKey::from_encoding_aeskey(encoded).unwrap()
}

/// What the fake seals, with code of its own.
fn seal(encoded: &str, random: [u8; 16], message: &[u8], appid: &str) -> String {
    let seal = crate::simulate::sealing::Seal::of_key(encoded).unwrap();
    seal.seal(random, message, appid)
}

fn hex(key: &str) -> String {
    // The key itself is never shown; what it encrypts tells it as well.
    let padded = format!("{key}=");
    let engine = base64::engine::GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        base64::engine::GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
    );
    let bytes = base64::Engine::decode(&engine, padded).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn receiver(aeskey: Option<&str>) -> Receiver {
    Receiver::new(APPID.to_owned(), TOKEN.into(), aeskey.map(key))
}

fn plain_query() -> CallbackQuery {
    CallbackQuery {
        signature: sign(TOKEN, &NOW.to_string(), NONCE, None),
        timestamp: NOW.to_string(),
        nonce: NONCE.to_owned(),
        ..CallbackQuery::default()
    }
}

fn safe_query(encrypted: &str) -> CallbackQuery {
    CallbackQuery {
        encrypt_type: "aes".to_owned(),
        msg_signature: sign(TOKEN, &NOW.to_string(), NONCE, Some(encrypted)),
        ..plain_query()
    }
}

fn envelope(encrypted: &str) -> String {
    json!({"ToUserName": "gh_0123456789ab", "Encrypt": encrypted}).to_string()
}

fn read_safe(encrypted: &str) -> Result<Push, Refusal> {
    let body = envelope(encrypted);
    receiver(Some(AESKEY)).read(&safe_query(encrypted), body.as_bytes(), NOW)
}

#[test]
fn the_published_signatures_come_out() {
    for (timestamp, nonce, encrypted, signature) in [
        (
            "1714036504",
            "1514711492",
            None,
            "f464b24fc39322e44b38aa78f5edd27bd1441696",
        ),
        (
            "1714037059",
            "486452656",
            None,
            "899cf89e464efb63f54ddac96b0a0a235f53aa78",
        ),
        (
            "1714112445",
            "415670741",
            Some(V1),
            "046e02f8204d34f8ba5fa3b1db94908f3df2e9b3",
        ),
        (
            "1714112445",
            "415670741",
            None,
            "6c5c811b55cc85e0e1b54100749188c20beb3f5d",
        ),
        (
            "1713424427",
            "415670741",
            Some(
                "ELGduP2YcVatjqIS+eZbp80MNLoAUWvzzyJxgGzxZO/5sAvd070Bs6qrLARC9nVHm48Y4hyRbtzve1L32tmxSQ==",
            ),
            "1b9339964ed2e271e7c7b6ff2b0ef902fc94dea1",
        ),
    ] {
        assert_eq!(sign("AAAAA", timestamp, nonce, encrypted), signature);
    }
    let pam =
        "jn1L23DB+6ELqJ+6bruv21Y6MD7KeIfP82D6gU39rmkgczbWwt5+3bnyg5K55bgVtVzd832WzZGMhkP72vVOfg==";
    assert_eq!(
        sign("pamtest", "1409304348", "xxxxxx", Some(pam)),
        "82c962d39941aa48552f90ef55aa323dc620cc10"
    );
    let own = |encrypted| sign(TOKEN, "1760000001", NONCE, encrypted);
    assert_eq!(own(None), "f9f9b8867fdd935cd5907ccb8a7041aca14d7732");
    assert_eq!(own(Some(O1)), "5fdcfb723c7aa5218bb806d38bc23a0329103bb8");
}

#[test]
fn the_published_event_is_decrypted() {
    let plain = key(&"A".repeat(43)).decrypt(V1).unwrap();
    assert_eq!(&plain.random, b"a8eedb185eb2fecf");
    assert_eq!(plain.message.len(), 167);
    assert_eq!(
        String::from_utf8(plain.message).unwrap(),
        r#"{"ToUserName":"gh_97417a04a28d","FromUserName":"o9AgO5Kd5ggOC-bXrbNODIiE3bGY","CreateTime":1714112445,"MsgType":"event","Event":"debug_demo","debug_str":"hello world"}"#
    );
    assert_eq!(plain.appid, PAGE_APPID.as_bytes());
}

/// The last character of this published key has bits that a strict decoder refuses.
#[test]
fn a_key_with_trailing_bits_works() {
    let encoded = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";
    assert_eq!(
        hex(encoded),
        "69b71d79f8218a39259a7a29aabb2dbafc31cb3d35db7e39ebbf3d0010831051"
    );
    let encrypted = seal(
        encoded,
        *b"aaaabbbbccccdddd",
        "我是中文abcd123".as_bytes(),
        "wxb11529c136998cb6",
    );
    assert_eq!(
        encrypted,
        "jn1L23DB+6ELqJ+6bruv21Y6MD7KeIfP82D6gU39rmkgczbWwt5+3bnyg5K55bgVtVzd832WzZGMhkP72vVOfg=="
    );
    let plain = key(encoded).decrypt(&encrypted).unwrap();
    assert_eq!(plain.message, "我是中文abcd123".as_bytes());
}

#[test]
fn our_own_vectors_hold_both_ways() {
    assert_eq!(
        hex(AESKEY),
        "ab53acd5931ed271b6f0a504c7d960dc78caed5e50c97be2db5d9fcec803aa0d"
    );
    let x26 = "x".repeat(26);
    for (message, encrypted, signature) in [
        (O1_MESSAGE, O1, "5fdcfb723c7aa5218bb806d38bc23a0329103bb8"),
        (
            r#"{"m":"订阅"}"#,
            "3YxdvoH5s3Qq4dkRiDwKZzCcy1Iorgu7oq+kwLAgs2pwuEsQcufvXOQ4265/LzOSgDyvWsrpQCtsbfRGn5BVSg==",
            "bcce996829d497dd9ffe7a1adf4975711e3e465d",
        ),
        // A whole block of padding is added when the length fits already.
        (
            &x26,
            "3YxdvoH5s3Qq4dkRiDwKZyF49ve0VmtDKPXwxinRhW8pqqiCV5Sjidd9L0u3wSkUXMI2w4JvcjkPLEnbJwsMfMjSctzyoZSO7/Ea6fLlOiFlzqeUEFdMw+FsGoT6F8eT",
            "ca04b8cf4be0b662684b8fd8d9db24b5439b5a78",
        ),
    ] {
        let aeskey = key(AESKEY);
        assert_eq!(
            seal(AESKEY, *b"0123456789abcdef", message.as_bytes(), APPID),
            encrypted
        );
        let plain = aeskey.decrypt(encrypted).unwrap();
        assert_eq!(plain.message, message.as_bytes());
        assert_eq!(plain.appid, APPID.as_bytes());
        assert_eq!(sign(TOKEN, "1760000001", NONCE, Some(encrypted)), signature);
    }
}

#[test]
fn the_url_is_verified_by_its_echo() {
    let query = CallbackQuery::parse(
        "signature=f464b24fc39322e44b38aa78f5edd27bd1441696&echostr=4375120948345356249&timestamp=1714036504&nonce=1514711492",
    );
    let receiver = Receiver::new(PAGE_APPID.to_owned(), "AAAAA".into(), None);
    assert_eq!(
        receiver.verify_url(&query, 1_714_036_504),
        Ok("4375120948345356249")
    );
    assert_eq!(
        receiver.verify_url(&query, 1_714_036_504 + 601),
        Err(Refusal::Stale)
    );
    let forged = CallbackQuery {
        signature: "f464b24fc39322e44b38aa78f5edd27bd1441697".to_owned(),
        ..query
    };
    assert_eq!(
        receiver.verify_url(&forged, 1_714_036_504),
        Err(Refusal::Signature)
    );
    assert_eq!(
        receiver.verify_url(&CallbackQuery::default(), 0),
        Err(Refusal::Signature)
    );
}

#[test]
fn a_safe_event_is_read() {
    let Push::Event(event) = read_safe(O1).unwrap() else {
        panic!("a pop-up event is stored")
    };
    assert_eq!(event, serde_json::from_str::<Value>(O1_MESSAGE).unwrap());
}

#[test]
fn what_stands_in_plain_beside_the_encrypted_event_is_ignored() {
    let body = json!({
        "FromUserName": "oForged", "Event": "subscribe_msg_sent_event", "CreateTime": 1,
        "List": {"MsgID": "1", "TemplateId": "T", "ErrorCode": "0"}, "Encrypt": O1,
    });
    let read = receiver(Some(AESKEY)).read(&safe_query(O1), body.to_string().as_bytes(), NOW);
    assert_eq!(read, read_safe(O1));
}

#[test]
fn with_a_key_nothing_unencrypted_is_taken() {
    let safe = receiver(Some(AESKEY));
    let plain = O1_MESSAGE.as_bytes();
    assert_eq!(
        safe.read(&plain_query(), plain, NOW),
        Err(Refusal::Unencrypted)
    );
    assert_eq!(
        safe.read(&safe_query(""), plain, NOW),
        Err(Refusal::Unencrypted)
    );
    let encrypted = envelope(O1);
    assert_eq!(
        safe.read(&plain_query(), encrypted.as_bytes(), NOW),
        Err(Refusal::Unencrypted)
    );
    // The signature of the query alone does not vouch for the body.
    let unsigned = CallbackQuery {
        msg_signature: String::new(),
        ..safe_query(O1)
    };
    assert_eq!(
        safe.read(&unsigned, encrypted.as_bytes(), NOW),
        Err(Refusal::Signature)
    );
}

#[test]
fn a_plain_event_needs_its_signature_and_a_fresh_timestamp() {
    let plain = receiver(None);
    let body = O1_MESSAGE.as_bytes();
    assert!(matches!(
        plain.read(&plain_query(), body, NOW),
        Ok(Push::Event(_))
    ));
    for now in [NOW - 601, NOW + 601] {
        assert_eq!(plain.read(&plain_query(), body, now), Err(Refusal::Stale));
    }
    let upper = plain_query().signature.to_uppercase();
    for signature in ["", "0", &upper, &plain_query().signature[1..]] {
        let query = CallbackQuery {
            signature: signature.to_owned(),
            ..plain_query()
        };
        assert_eq!(plain.read(&query, body, NOW), Err(Refusal::Signature));
    }
    // The signature is looked at before the body.
    assert_eq!(
        plain.read(&CallbackQuery::default(), b"\xff", NOW),
        Err(Refusal::Signature)
    );
}

#[test]
fn an_encrypted_event_without_a_key_says_so() {
    let body = envelope(O1);
    assert_eq!(
        receiver(None).read(&safe_query(O1), body.as_bytes(), NOW),
        Err(Refusal::NoKey)
    );
}

#[test]
fn what_another_key_or_appid_encrypted_is_refused() {
    let other = seal(&"A".repeat(43), [7; 16], O1_MESSAGE.as_bytes(), APPID);
    assert_eq!(read_safe(&other), Err(Refusal::Cipher));
    let other = seal(AESKEY, [7; 16], O1_MESSAGE.as_bytes(), "wx0000000000000000");
    assert_eq!(read_safe(&other), Err(Refusal::OtherApp));
    let bytes = seal(AESKEY, [7; 16], b"\xff\xfe", APPID);
    assert_eq!(read_safe(&bytes), Err(Refusal::NotUtf8));
}

/// While token and key are changed in WeChat's console, pushes come with the old pair and with the new one.
#[test]
fn the_previous_token_and_key_are_taken_beside_the_present_ones() {
    let new_key = "A".repeat(43);
    let rotating = || Receiver::new(APPID.to_owned(), "newtoken".into(), Some(key(&new_key)));
    let signed = |token: &str, encrypted: &str| CallbackQuery {
        msg_signature: sign(token, &NOW.to_string(), NONCE, Some(encrypted)),
        signature: sign(token, &NOW.to_string(), NONCE, None),
        ..safe_query(encrypted)
    };
    let new = seal(&new_key, [7; 16], O1_MESSAGE.as_bytes(), APPID);
    let expected = read_safe(O1).unwrap();
    let both = rotating().with_previous(Some(TOKEN.into()), Some(key(AESKEY)));
    for (token, encrypted) in [(TOKEN, O1), ("newtoken", &new), ("newtoken", O1)] {
        let body = envelope(encrypted);
        let read = both.read(&signed(token, encrypted), body.as_bytes(), NOW);
        assert_eq!(read.as_ref(), Ok(&expected));
        let without = rotating().read(&signed(token, encrypted), body.as_bytes(), NOW);
        assert_eq!(without.is_ok(), encrypted == new);
    }
    let strange = signed("sometoken", &new);
    let body = envelope(&new);
    assert_eq!(
        both.read(&strange, body.as_bytes(), NOW),
        Err(Refusal::Signature)
    );
    let third = seal(&"B".repeat(43), [7; 16], O1_MESSAGE.as_bytes(), APPID);
    let body = envelope(&third);
    let read = both.read(&signed(TOKEN, &third), body.as_bytes(), NOW);
    assert_eq!(read, Err(Refusal::Cipher));
}

#[test]
fn truncated_and_changed_ciphertext_is_refused() {
    for length in [0, 1, 22, 24, 44, 64, O1.len() - 24, O1.len() - 1] {
        assert!(read_safe(&O1[..length]).is_err(), "cut at {length}");
    }
    let aeskey = key(AESKEY);
    // Paddings of 0 and 33, unequal ones, a length beyond the end: built by encrypting what is broken inside.
    for broken in [vec![0_u8; 32], vec![33; 64], {
        let mut unequal = vec![4; 32];
        unequal[29] = 5;
        unequal
    }] {
        assert!(aeskey.decrypt(&encrypt_raw(&broken)).is_err());
    }
    let mut long = vec![b'r'; 16];
    long.extend_from_slice(&u32::MAX.to_be_bytes());
    long.extend_from_slice(&[12; 12]);
    assert!(aeskey.decrypt(&encrypt_raw(&long)).is_err());
}

/// Encrypts whole blocks as they stand.
fn encrypt_raw(blocks: &[u8]) -> String {
    use cbc::cipher::{BlockModeEncrypt, KeyIvInit, block_padding::NoPadding};
    let hex = hex(AESKEY);
    let bytes: Vec<u8> = (0..32)
        .map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap())
        .collect();
    let cipher = cbc::Encryptor::<aes::Aes256>::new_from_slices(&bytes, &bytes[..16]).unwrap();
    let encrypted = cipher.encrypt_padded_vec::<NoPadding>(blocks);
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, encrypted)
}

#[test]
fn xml_reads_as_the_same_event_as_json() {
    let xml = "<?xml version=\"1.0\"?>\n<xml>\n <ToUserName><![CDATA[gh_0123456789ab]]></ToUserName>
      <FromUserName>oUser1</FromUserName><CreateTime>1760000000</CreateTime>
      <MsgType><![CDATA[event]]></MsgType><Event><![CDATA[subscribe_msg_popup_event]]></Event>
      <SubscribeMsgPopupEvent>
        <List><TemplateId><![CDATA[T1]]></TemplateId><SubscribeStatusString><![CDATA[accept]]></SubscribeStatusString><PopupScene>0</PopupScene></List>
        <List><TemplateId>T&amp;2&#33;</TemplateId><SubscribeStatusString>reject</SubscribeStatusString><PopupScene/></List>
      </SubscribeMsgPopupEvent><!-- a comment -->
    </xml>";
    assert_eq!(
        document::read(xml).unwrap(),
        json!({
            "ToUserName": "gh_0123456789ab", "FromUserName": "oUser1", "CreateTime": "1760000000", "MsgType": "event",
            "Event": "subscribe_msg_popup_event",
            "SubscribeMsgPopupEvent": {"List": [
                {"TemplateId": "T1", "SubscribeStatusString": "accept", "PopupScene": "0"},
                {"TemplateId": "T&2!", "SubscribeStatusString": "reject", "PopupScene": ""},
            ]},
        })
    );
}

#[test]
fn dtds_entities_and_broken_documents_are_refused() {
    for (text, error) in [
        (
            "<!DOCTYPE xml [<!ENTITY a \"b\">]><xml><Event>&a;</Event></xml>",
            DocumentError::Dtd,
        ),
        ("<xml><Event>&file;</Event></xml>", DocumentError::Dtd),
        ("<xml><Event>&#0;</Event></xml>", DocumentError::Xml),
        ("<xml><Event>x</Event>", DocumentError::Xml),
        ("<xml><Event>x</Evnt></xml>", DocumentError::Xml),
        ("<xml></xml><xml></xml>", DocumentError::Xml),
        ("<xml>text</xml>", DocumentError::Xml),
        ("<xml/>", DocumentError::Xml),
        ("{\"Event\":", DocumentError::Json),
        ("{} {}", DocumentError::Json),
        ("[]", DocumentError::NeitherFormat),
        ("success", DocumentError::NeitherFormat),
        ("", DocumentError::NeitherFormat),
    ] {
        assert_eq!(document::read(text), Err(error), "{text}");
    }
    let deep = format!("{}x{}", "<a>".repeat(40), "</a>".repeat(40));
    assert_eq!(document::read(&deep), Err(DocumentError::Depth));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(document::read(&deep), Err(DocumentError::Json));
}

#[test]
fn integers_above_2_to_the_53_keep_every_digit() {
    let event = document::read(r#"{"List":{"MsgID":2875012345678901235}}"#).unwrap();
    assert_eq!(event["List"]["MsgID"].to_string(), "2875012345678901235");
}

#[test]
fn nul_does_not_reach_the_database() {
    let event = document::read(r#"{"a\u0000b":["c\u0000"]}"#).unwrap();
    assert_eq!(event, json!({"a\u{fffd}b": ["c\u{fffd}"]}));
}

#[test]
fn chat_messages_and_unknown_events_are_not_kept() {
    for event in [
        json!({"MsgType": "text", "Content": "hello"}),
        json!({"MsgType": "event", "Event": "user_enter_tempsession"}),
        json!({"Event": 5}),
        json!({}),
    ] {
        assert_eq!(recognize(event), Push::Other);
    }
}

#[test]
fn neither_token_nor_key_is_shown() {
    let shown = format!("{:?} {:?}", receiver(Some(AESKEY)), key(AESKEY));
    assert!(!shown.contains(TOKEN) && !shown.contains(AESKEY), "{shown}");
}

proptest! {
    #[test]
    fn no_document_makes_the_reader_panic(text in ".{0,400}") {
        let _ = document::read(&text);
    }

    #[test]
    fn no_tag_soup_makes_the_reader_panic(text in "[<>/a&;#!\\[\\]{}\":,0-9x?\\- ]{0,200}") {
        let _ = document::read(&format!("<{text}"));
        let _ = document::read(&format!("{{{text}"));
    }

    #[test]
    fn no_bytes_make_the_decryption_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), block in 0_usize..16) {
        let aeskey = key(AESKEY);
        let _ = aeskey.decrypt(&String::from_utf8_lossy(&bytes));
        let whole = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, vec![7; block * 16]);
        let _ = aeskey.decrypt(&whole);
        let mut blocks = bytes;
        blocks.resize(blocks.len().next_multiple_of(16).max(16), 1);
        let _ = aeskey.decrypt(&encrypt_raw(&blocks));
    }

    #[test]
    fn no_body_makes_the_receiver_panic(body in proptest::collection::vec(any::<u8>(), 0..300), query in ".{0,100}") {
        for aeskey in [None, Some(AESKEY)] {
            let receiver = receiver(aeskey);
            prop_assert!(receiver.read(&CallbackQuery::parse(&query), &body, NOW).is_err());
            let _ = receiver.read(&plain_query(), &body, NOW);
            let _ = receiver.read(&safe_query(&String::from_utf8_lossy(&body)), &body, NOW);
        }
    }

    #[test]
    fn what_is_encrypted_is_decrypted(message in proptest::collection::vec(any::<u8>(), 0..300), random: [u8; 16]) {
        let aeskey = key(AESKEY);
        let plain = aeskey.decrypt(&seal(AESKEY, random, &message, APPID)).unwrap();
        prop_assert_eq!(plain.message, message);
        prop_assert_eq!(plain.appid, APPID.as_bytes());
    }
}

#[test]
fn an_event_from_the_future_is_refused_in_either_mode_and_format() {
    let reject = |created: Value| {
        json!({"FromUserName": "oUser1", "CreateTime": created, "MsgType": "event", "Event": "subscribe_msg_change_event",
               "List": {"TemplateId": "T", "SubscribeStatusString": "reject"}})
    };
    let plain = |body: String| receiver(None).read(&plain_query(), body.as_bytes(), NOW);
    let latest = NOW + TIMESTAMP_SKEW_SECS_MAX;
    for created in [
        json!(latest + 1),
        json!(9_999_999_999_i64),
        json!("9999999999"),
        json!(i64::MAX),
    ] {
        let event = reject(created.clone()).to_string();
        assert_eq!(plain(event.clone()), Err(Refusal::Future), "{created}");
        let encrypted = seal(AESKEY, [b'r'; 16], event.as_bytes(), APPID);
        assert_eq!(read_safe(&encrypted), Err(Refusal::Future), "{created}");
        let xml = format!(
            "<xml><FromUserName>oUser1</FromUserName><CreateTime>{}</CreateTime><MsgType>event</MsgType>\
             <Event>subscribe_msg_change_event</Event></xml>",
            created.to_string().trim_matches('"')
        );
        assert_eq!(plain(xml), Err(Refusal::Future), "{created}");
    }
    // What was late, or is a little ahead, is WeChat's; and who chats is not read for its time.
    for created in [latest, NOW, NOW - 86_400, 0] {
        assert!(
            matches!(
                plain(reject(json!(created)).to_string()),
                Ok(Push::Event(_))
            ),
            "{created}"
        );
    }
    let chat = json!({"MsgType": "text", "CreateTime": 9_999_999_999_i64});
    assert_eq!(plain(chat.to_string()), Ok(Push::Other));
}
