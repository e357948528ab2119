//! Service keys: `wwk_` and secret 32 | tag 8 in unpadded base64url.
//!
//! The tag is a MAC under the index key, so that invented keys cost no look-up. What is stored, or
//! compared with the configuration, is SHA-256 of the secret: 256 random bits need no slow hash.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::keys::KeyRing;
use crate::mac::{Message, TAG_SIZE};
use crate::secret::{KEY_SIZE, Secret, random};

const PREFIX: &str = "wwk_";
const RAW_SIZE: usize = 40;

/// Characters of a service key, prefix and all.
pub const SERVICE_KEY_LENGTH: usize = 58;

impl KeyRing {
    /// Makes a new service key.
    ///
    /// # Errors
    /// `Randomness`.
    pub fn mint_service_key(&self) -> Result<Secret, Error> {
        Ok(self.write_service_key(&*random::<KEY_SIZE>()?))
    }

    /// Gives SHA-256 of the secret; None unless the form is canonical (the four spare bits of the
    /// last character are zero) and the tag right.
    #[must_use]
    pub fn parse_service_key(&self, token: &str) -> Option<[u8; 32]> {
        if token.len() != SERVICE_KEY_LENGTH {
            return None;
        }
        let mut raw = Zeroizing::new([0_u8; RAW_SIZE]);
        let size = URL_SAFE_NO_PAD
            .decode_slice(token.strip_prefix(PREFIX)?, raw.as_mut_slice())
            .ok()?;
        if size != RAW_SIZE {
            return None;
        }
        let (secret, rest) = raw.split_first_chunk::<KEY_SIZE>()?;
        let tag = *rest.first_chunk::<TAG_SIZE>()?;
        self.tagged_service_key(secret)
            .tag_matches(tag)
            .then(|| Sha256::digest(secret).into())
    }

    pub(crate) fn write_service_key(&self, secret: &[u8; KEY_SIZE]) -> Secret {
        let tag = self.tagged_service_key(secret).tag::<TAG_SIZE>();
        let mut raw = Zeroizing::new(Vec::with_capacity(RAW_SIZE));
        raw.extend_from_slice(secret);
        raw.extend_from_slice(&tag);
        // Exactly as large as needed: growing would leave copies behind.
        let mut token = Zeroizing::new(String::with_capacity(SERVICE_KEY_LENGTH));
        token.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(raw.as_slice(), &mut token);
        Secret::new(token)
    }

    fn tagged_service_key(&self, secret: &[u8; KEY_SIZE]) -> Message {
        self.service_key_tag.message().raw(secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> KeyRing {
        KeyRing::new(&[(1, &[1; 32])], &[3; 32]).unwrap()
    }

    /// A new key is accepted by every ring with the same index key and by no other.
    #[test]
    fn minted_keys_are_accepted() {
        let token = ring().mint_service_key().unwrap();
        assert_eq!(token.reveal().len(), SERVICE_KEY_LENGTH);
        let rotated = KeyRing::new(&[(2, &[2; 32])], &[3; 32]).unwrap();
        let digest = ring().parse_service_key(token.reveal()).unwrap();
        assert_eq!(rotated.parse_service_key(token.reveal()), Some(digest));
        let other = KeyRing::new(&[(1, &[1; 32])], &[4; 32]).unwrap();
        assert_eq!(other.parse_service_key(token.reveal()), None);
    }

    /// Of the 16 last characters that decode to the same bytes only the canonical one is accepted.
    #[test]
    fn spare_bits_must_be_zero() {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let token = ring().mint_service_key().unwrap();
        let (body, last) = token.reveal().split_at(SERVICE_KEY_LENGTH - 1);
        let accepted: Vec<String> = ALPHABET
            .iter()
            .map(|byte| char::from(*byte).to_string())
            .filter(|end| ring().parse_service_key(&format!("{body}{end}")).is_some())
            .collect();
        assert_eq!(accepted, [last]);
    }
}
