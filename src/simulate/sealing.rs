//! How WeChat signs and encrypts what it pushes: code of the fake's own, since it is to test the receiver's.
//!
//! Source: <https://developers.weixin.qq.com/miniprogram/dev/framework/server-ability/message-push.html>

use aes::Aes256;
use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use cbc::cipher::block_padding::NoPadding;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use sha1::{Digest, Sha1};

/// What is encrypted is made a multiple of this long; AES itself would do with 16.
const BLOCK_BYTES: usize = 32;

/// `signature` of `[token, timestamp, nonce]`, or `msg_signature` with `Encrypt` as the fourth.
#[must_use]
pub fn sign<const PARTS: usize>(mut parts: [&str; PARTS]) -> String {
    parts.sort_unstable();
    let digest = Sha1::digest(parts.concat());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An EncodingAESKey that seals events.
#[derive(Clone)]
pub struct Seal {
    key: [u8; 32],
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(…)")
    }
}

impl Seal {
    /// Reads an EncodingAESKey.
    ///
    /// # Errors
    ///
    /// It is not 43 characters of base64.
    pub fn of_key(encoding_aeskey: &str) -> Result<Self, &'static str> {
        // 43 characters are 258 bits: the last two stand for nothing and may be set.
        let lenient = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
        let base64 = GeneralPurpose::new(&alphabet::STANDARD, lenient);
        let decoded = base64.decode(format!("{encoding_aeskey}="));
        match decoded.map(<[u8; 32]>::try_from) {
            Ok(Ok(key)) => Ok(Self { key }),
            _ => Err("an EncodingAESKey is 43 letters and digits"),
        }
    }

    /// The text of `Encrypt`: 16 random bytes, the message's length, the message and the appid, filled up and encrypted.
    #[must_use]
    pub fn seal(&self, random: [u8; 16], message: &[u8], appid: &str) -> String {
        let length = u32::try_from(message.len()).expect("a message is far shorter than 4 GiB");
        let mut content = [
            &random[..],
            &length.to_be_bytes(),
            message,
            appid.as_bytes(),
        ]
        .concat();
        let filled = (content.len() / BLOCK_BYTES + 1) * BLOCK_BYTES;
        let pad = u8::try_from(filled - content.len()).expect("1 to 32 are missing");
        content.resize(filled, pad);
        let iv = &self.key[..16];
        let cipher = cbc::Encryptor::<Aes256>::new_from_slices(&self.key, iv)
            .expect("the key has 32 bytes and the vector 16");
        STANDARD.encode(cipher.encrypt_padded_vec::<NoPadding>(&content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WeChat's message-push page: token `AAAAA`, key 43 × `A`.
    const PAGE_APPID: &str = "wxba5fad812f8e6fb9";
    const PAGE_EVENT: &str = "+qdx1OKCy+5JPCBFWw70tm0fJGb2Jmeia4FCB7kao+/Q5c/ohsOzQHi8khUOb05JCpj0JB4RvQMkUyus8TPxLKJGQqcvZqzDpVzazhZv6JsXUnnR8XGT740XgXZUXQ7vJVnAG+tE8NUd4yFyjPy7GgiaviNrlCTj+l5kdfMuFUPpRSrfMZuMcp3Fn2Pede2IuQrKEYwKSqFIZoNqJ4M8EajAsjLY2km32IIjdf8YL/P50F7mStwntrA2cPDrM1kb6mOcfBgRtWygb3VIYnSeOBrebufAlr7F9mFUPAJGj04=";
    const PAGE_REPLY: &str =
        "ELGduP2YcVatjqIS+eZbp80MNLoAUWvzzyJxgGzxZO/5sAvd070Bs6qrLARC9nVHm48Y4hyRbtzve1L32tmxSQ==";
    /// Tencent's sample in the test suites of SDKs. The key's last character has bits that stand for nothing.
    const SAMPLE_KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";
    const SAMPLE: &str =
        "jn1L23DB+6ELqJ+6bruv21Y6MD7KeIfP82D6gU39rmkgczbWwt5+3bnyg5K55bgVtVzd832WzZGMhkP72vVOfg==";
    /// A key and an appid of our own, whose texts were computed elsewhere.
    const OWN_KEY: &str = "q1Os1ZMe0nG28KUEx9lg3HjK7V5QyXvi212fzsgDqg0";
    const OWN_APPID: &str = "wx5823bf96d3bd56c7";

    fn seal(key: &str) -> Seal {
        Seal::of_key(key).unwrap()
    }

    #[test]
    fn the_published_event_and_reply_come_out_to_the_letter() {
        let page = seal(&"A".repeat(43));
        let event = br#"{"ToUserName":"gh_97417a04a28d","FromUserName":"o9AgO5Kd5ggOC-bXrbNODIiE3bGY","CreateTime":1714112445,"MsgType":"event","Event":"debug_demo","debug_str":"hello world"}"#;
        let sealed = page.seal(*b"a8eedb185eb2fecf", event, PAGE_APPID);
        assert_eq!(sealed, PAGE_EVENT);
        let reply = br#"{"demo_resp":"good luck"}"#;
        let sealed = page.seal(*b"707722b803182950", reply, PAGE_APPID);
        assert_eq!(sealed, PAGE_REPLY);
    }

    #[test]
    fn a_key_whose_last_bits_are_set_seals_as_published() {
        let message = "我是中文abcd123".as_bytes();
        let sealed = seal(SAMPLE_KEY).seal(*b"aaaabbbbccccdddd", message, "wxb11529c136998cb6");
        assert_eq!(sealed, SAMPLE);
    }

    #[test]
    fn what_fits_already_gets_a_whole_block_more() {
        let own = seal(OWN_KEY);
        let sealed = own.seal(*b"0123456789abcdef", &[b'x'; 26], OWN_APPID);
        assert_eq!(
            sealed,
            "3YxdvoH5s3Qq4dkRiDwKZyF49ve0VmtDKPXwxinRhW8pqqiCV5Sjidd9L0u3wSkUXMI2w4JvcjkPLEnbJwsMfMjSctzyoZSO7/Ea6fLlOiFlzqeUEFdMw+FsGoT6F8eT"
        );
        let sealed = own.seal(
            *b"0123456789abcdef",
            r#"{"m":"订阅"}"#.as_bytes(),
            OWN_APPID,
        );
        assert_eq!(
            sealed,
            "3YxdvoH5s3Qq4dkRiDwKZzCcy1Iorgu7oq+kwLAgs2pwuEsQcufvXOQ4265/LzOSgDyvWsrpQCtsbfRGn5BVSg=="
        );
    }

    #[test]
    fn the_published_signatures_come_out() {
        let page = |timestamp, nonce| sign(["AAAAA", timestamp, nonce]);
        assert_eq!(
            page("1714036504", "1514711492"),
            "f464b24fc39322e44b38aa78f5edd27bd1441696"
        );
        assert_eq!(
            page("1714037059", "486452656"),
            "899cf89e464efb63f54ddac96b0a0a235f53aa78"
        );
        assert_eq!(
            page("1714112445", "415670741"),
            "6c5c811b55cc85e0e1b54100749188c20beb3f5d"
        );
        let sealed = |timestamp, sealed| sign(["AAAAA", timestamp, "415670741", sealed]);
        assert_eq!(
            sealed("1714112445", PAGE_EVENT),
            "046e02f8204d34f8ba5fa3b1db94908f3df2e9b3"
        );
        assert_eq!(
            sealed("1713424427", PAGE_REPLY),
            "1b9339964ed2e271e7c7b6ff2b0ef902fc94dea1"
        );
        assert_eq!(
            sign(["pamtest", "1409304348", "xxxxxx", SAMPLE]),
            "82c962d39941aa48552f90ef55aa323dc620cc10"
        );
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for key in [
            "",
            "short",
            &"A".repeat(42),
            &"A".repeat(44),
            &"!".repeat(43),
        ] {
            assert!(Seal::of_key(key).is_err(), "{key}");
        }
    }
}
