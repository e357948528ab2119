//! The key ring: which keys an installation holds and the sub-keys made from them.
//!
//! The first key signs, all verify: a new key is rolled out last in the list and moved first by a
//! second roll-out. The index key finds things again (subjects, limits, service keys, devices,
//! changes, pages) and never rotates.

use std::fmt;

use subtle::ConstantTimeEq as _;

use crate::error::Error;
use crate::mac::MacKey;
use crate::secret::KEY_SIZE;

/// The sub-keys of one key of the ring, a label each.
pub(crate) struct RingKey {
    pub(crate) id: u8,
    pub(crate) otp: MacKey,
    pub(crate) session_tag: MacKey,
    pub(crate) session_verifier: MacKey,
    pub(crate) session_refresh: MacKey,
}

impl RingKey {
    fn derive(id: u8, key: &[u8]) -> Result<Self, Error> {
        if id == 0 {
            return Err(Error::KeyIdRange);
        }
        let key = sized(key)?;
        Ok(Self {
            id,
            otp: MacKey::derive(key, "watchword/otp/v1")?,
            session_tag: MacKey::derive(key, "watchword/session-tag/v1")?,
            session_verifier: MacKey::derive(key, "watchword/session-verifier/v1")?,
            session_refresh: MacKey::derive(key, "watchword/session-refresh/v1")?,
        })
    }
}

/// Every sub-key of an installation, derived once; immutable, so any thread may use it.
pub struct KeyRing {
    signing: RingKey,
    verifying: Vec<RingKey>,
    pub(crate) subject: MacKey,
    pub(crate) service_key_tag: MacKey,
    pub(crate) limit: MacKey,
    pub(crate) device_tag: MacKey,
    pub(crate) change_tag: MacKey,
    pub(crate) page_tag: MacKey,
}

impl KeyRing {
    /// Builds a ring from (key id 1..=255, 32 bytes) in order and the 32-byte index key.
    ///
    /// The caller's own copies of the keys stay the caller's to wipe. A key under two ids would be
    /// a rotation that is none, and let the id in a token be changed without its tag being wrong.
    ///
    /// # Errors
    /// `RingEmpty`, `KeyIdRange` (id 0), `KeyIdTwice`, `KeyTwice`, `KeyLength`.
    pub fn new(keys: &[(u8, &[u8])], index_key: &[u8]) -> Result<Self, Error> {
        let ((first_id, first_key), rest) = keys.split_first().ok_or(Error::RingEmpty)?;
        let index_key = sized(index_key)?;
        let mut ring = Self {
            signing: RingKey::derive(*first_id, first_key)?,
            verifying: Vec::with_capacity(rest.len()),
            subject: MacKey::derive(index_key, "watchword/subject/v1")?,
            service_key_tag: MacKey::derive(index_key, "watchword/service-key-tag/v1")?,
            limit: MacKey::derive(index_key, "watchword/limit/v1")?,
            device_tag: MacKey::derive(index_key, "watchword/device-tag/v1")?,
            change_tag: MacKey::derive(index_key, "watchword/change-tag/v1")?,
            page_tag: MacKey::derive(index_key, "watchword/page-tag/v1")?,
        };
        for (id, key) in rest {
            if ring.find(*id).is_some() {
                return Err(Error::KeyIdTwice(*id));
            }
            ring.verifying.push(RingKey::derive(*id, key)?);
            if keys
                .iter()
                .any(|(other, same)| other != id && bool::from(same.ct_eq(key)))
            {
                return Err(Error::KeyTwice(*id));
            }
        }
        Ok(ring)
    }

    /// The id of the key that signs what is new.
    #[must_use]
    pub fn signing_key_id(&self) -> u8 {
        self.signing.id
    }

    pub(crate) fn signing(&self) -> &RingKey {
        &self.signing
    }

    /// Ids are public, so the search need not take constant time.
    pub(crate) fn find(&self, id: u8) -> Option<&RingKey> {
        std::iter::once(&self.signing)
            .chain(&self.verifying)
            .find(|key| key.id == id)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRing([redacted])")
    }
}

fn sized(key: &[u8]) -> Result<&[u8; KEY_SIZE], Error> {
    key.try_into().map_err(|_| Error::KeyLength)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &[u8] = &[1; 32];
    const B: &[u8] = &[2; 32];
    const C: &[u8] = &[3; 32];

    fn error(keys: &[(u8, &[u8])], index_key: &[u8]) -> Error {
        KeyRing::new(keys, index_key).unwrap_err()
    }

    /// The first key signs; every key is found by its id.
    #[test]
    fn first_key_signs() {
        let ring = KeyRing::new(&[(9, A), (255, B), (1, C)], A).unwrap();
        assert_eq!(ring.signing_key_id(), 9);
        for id in 0..=255 {
            assert_eq!(ring.find(id).is_some(), [9, 255, 1].contains(&id));
        }
    }

    /// Rings that cannot be meant are refused, each with its own error.
    #[test]
    fn bad_rings_are_refused() {
        assert_eq!(error(&[], A), Error::RingEmpty);
        assert_eq!(error(&[(0, A)], A), Error::KeyIdRange);
        assert_eq!(error(&[(1, A), (0, B)], A), Error::KeyIdRange);
        assert_eq!(error(&[(1, A), (1, B)], A), Error::KeyIdTwice(1));
        assert_eq!(error(&[(1, A), (2, B), (2, C)], A), Error::KeyIdTwice(2));
        assert_eq!(error(&[(1, A), (2, A)], C), Error::KeyTwice(2));
        assert_eq!(error(&[(1, A), (2, B), (3, B)], C), Error::KeyTwice(2));
        for size in [0, 16, 31, 33, 64] {
            assert_eq!(error(&[(1, &vec![1; size])], A), Error::KeyLength);
            assert_eq!(error(&[(1, A), (2, &vec![1; size])], A), Error::KeyLength);
            assert_eq!(error(&[(1, A)], &vec![1; size]), Error::KeyLength);
        }
    }

    /// Neither form of Debug shows a key.
    #[test]
    fn debug_is_redacted() {
        let ring = KeyRing::new(&[(1, A)], B).unwrap();
        assert_eq!(format!("{ring:?}"), "KeyRing([redacted])");
        assert_eq!(format!("{ring:#?}"), "KeyRing([redacted])");
    }
}
