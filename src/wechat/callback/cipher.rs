//! Decrypting callbacks: AES-256-CBC with a padding block of 32 bytes around random bytes, length, message, appid.
//!
//! Source: <https://developers.weixin.qq.com/miniprogram/dev/framework/server-ability/message-push.html>

use aes::Aes256;
use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use cbc::cipher::block_padding::NoPadding;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
use secrecy::zeroize::Zeroize;

/// Padding fills up to a multiple of this; PKCS#7 as libraries have it would use AES's own 16.
const PADDING_BLOCK: usize = 32;
/// Random bytes before the message.
const RANDOM_BYTES: usize = 16;
/// Random bytes and the message's length.
const HEAD_BYTES: usize = RANDOM_BYTES + 4;

/// A key of 43 characters carries 258 bits; the last two are often not zero, which a strict decoder refuses.
const KEY_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The AES key of an EncodingAESKey. Neither shown nor left in memory.
#[derive(Clone)]
pub struct AesKey([u8; 32]);

impl Drop for AesKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for AesKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AesKey(…)")
    }
}

/// The EncodingAESKey is not 43 characters of base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an EncodingAESKey is 43 letters and digits")]
pub struct BadKey;

/// It was not encrypted with this key, or it was cut or changed on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot be decrypted")]
pub struct Undecipherable;

/// What was encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plain {
    /// Random bytes, of no use to anybody.
    pub random: [u8; RANDOM_BYTES],
    /// The event.
    pub message: Vec<u8>,
    /// The mini-program it is for.
    pub appid: Vec<u8>,
}

impl AesKey {
    /// Reads an EncodingAESKey.
    ///
    /// # Errors
    ///
    /// It is not 43 characters of base64.
    pub fn from_encoding_aeskey(encoded: &str) -> Result<Self, BadKey> {
        if encoded.len() != 43 {
            return Err(BadKey);
        }
        let mut padded = format!("{encoded}=");
        let decoded = KEY_BASE64.decode(&padded);
        padded.zeroize();
        let mut bytes = decoded.map_err(|_| BadKey)?;
        let key = bytes.as_slice().try_into().map(Self).map_err(|_| BadKey);
        bytes.zeroize();
        key
    }

    /// The initialization vector is the key's first half.
    fn iv(&self) -> &[u8] {
        &self.0[..16]
    }

    /// Decrypts the base64 text of `Encrypt`.
    ///
    /// # Errors
    ///
    /// Base64, length, padding or structure are not as they must be.
    pub fn decrypt(&self, encrypted: &str) -> Result<Plain, Undecipherable> {
        let mut bytes = STANDARD.decode(encrypted).map_err(|_| Undecipherable)?;
        if bytes.is_empty() || bytes.len() % 16 != 0 {
            return Err(Undecipherable);
        }
        let cipher = cbc::Decryptor::<Aes256>::new_from_slices(&self.0, self.iv())
            .expect("the key has 32 bytes and the vector 16");
        let padded = cipher
            .decrypt_padded::<NoPadding>(&mut bytes)
            .map_err(|_| Undecipherable)?;
        open(strip_padding(padded)?)
    }
}

/// Removes 1 to 32 equal bytes, each telling how many they are.
fn strip_padding(padded: &[u8]) -> Result<&[u8], Undecipherable> {
    let pad = padded.last().copied().ok_or(Undecipherable)?;
    let length = usize::from(pad);
    if !(1..=PADDING_BLOCK).contains(&length) || length > padded.len() {
        return Err(Undecipherable);
    }
    let (content, padding) = padded.split_at(padded.len() - length);
    if padding.iter().all(|byte| *byte == pad) {
        Ok(content)
    } else {
        Err(Undecipherable)
    }
}

/// Takes apart: random bytes, the message's length, the message, the appid.
fn open(content: &[u8]) -> Result<Plain, Undecipherable> {
    let (head, rest) = content.split_at_checked(HEAD_BYTES).ok_or(Undecipherable)?;
    let (random, length) = head.split_at(RANDOM_BYTES);
    let length = u32::from_be_bytes(length.try_into().expect("the head ends in 4 bytes"));
    let length = usize::try_from(length).map_err(|_| Undecipherable)?;
    let (message, appid) = rest.split_at_checked(length).ok_or(Undecipherable)?;
    Ok(Plain {
        random: random.try_into().expect("the head begins with 16 bytes"),
        message: message.to_vec(),
        appid: appid.to_vec(),
    })
}
