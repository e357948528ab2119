//! Device tokens: `wwd_` and 33 bytes in unpadded base64url.
//!
//! | bytes | holds |
//! |---|---|
//! | 1 | version, 1 |
//! | 8 | since: when the device first signed in, microseconds since 1970, big-endian |
//! | 8 | issued: when it last signed in, likewise |
//! | 16 | tag: a MAC over subject and the rest, under a sub-key of the index key |
//!
//! Nothing of a token is stored. It says that somebody signed in to a subject with this device, and
//! that alone; `since` is what tells the devices of a subject apart, so that a token which is
//! renewed at a sign-in keeps its counts.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::keys::KeyRing;
use crate::mac::Message;
use crate::secret::Secret;
use crate::subject::SubjectKey;

const PREFIX: &str = "wwd_";
const VERSION: u8 = 1;
const RAW_SIZE: usize = 33;
/// 128 bits: nothing but the tag admits a device token, unlike a session's.
const DEVICE_TAG_SIZE: usize = 16;

/// Characters of a device token, prefix and all.
pub const DEVICE_TOKEN_LENGTH: usize = 48;

/// What a device token says; microseconds since 1970.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DeviceTimes {
    /// When the device first signed in to the subject.
    pub since_us: i64,
    /// When it last did.
    pub issued_us: i64,
}

impl KeyRing {
    /// Makes the token of a device that has signed in to a subject.
    #[must_use]
    pub fn mint_device_token(&self, subject_key: &SubjectKey, times: DeviceTimes) -> Secret {
        let tag = self
            .tagged_device(subject_key, times)
            .tag::<DEVICE_TAG_SIZE>();
        let mut raw = Zeroizing::new(Vec::with_capacity(RAW_SIZE));
        raw.push(VERSION);
        raw.extend_from_slice(&times.since_us.to_be_bytes());
        raw.extend_from_slice(&times.issued_us.to_be_bytes());
        raw.extend_from_slice(&tag);
        // Exactly as large as needed: growing would leave copies behind.
        let mut token = Zeroizing::new(String::with_capacity(DEVICE_TOKEN_LENGTH));
        token.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(raw.as_slice(), &mut token);
        Secret::new(token)
    }

    /// Gives the times of a token; None unless its form is canonical and its tag right for this
    /// subject.
    #[must_use]
    pub fn check_device_token(&self, token: &str, subject_key: &SubjectKey) -> Option<DeviceTimes> {
        let (times, tag) = read(token)?;
        self.tagged_device(subject_key, times)
            .tag_matches(tag)
            .then_some(times)
    }

    fn tagged_device(&self, subject_key: &SubjectKey, times: DeviceTimes) -> Message {
        let message = self.device_tag.message().field(b"watchword/device/v1");
        message
            .field(subject_key)
            .raw(&[VERSION])
            .raw(&times.since_us.to_be_bytes())
            .raw(&times.issued_us.to_be_bytes())
    }
}

/// Answers whether a text has the form of a device token, whoever made it.
#[must_use]
pub fn is_device_token(text: &str) -> bool {
    read(text).is_some()
}

fn read(token: &str) -> Option<(DeviceTimes, [u8; DEVICE_TAG_SIZE])> {
    if token.len() != DEVICE_TOKEN_LENGTH {
        return None;
    }
    let mut raw = Zeroizing::new([0_u8; RAW_SIZE]);
    let size = URL_SAFE_NO_PAD
        .decode_slice(token.strip_prefix(PREFIX)?, raw.as_mut_slice())
        .ok()?;
    if size != RAW_SIZE {
        return None;
    }
    let (version, rest) = raw.split_first()?;
    let (since, rest) = rest.split_first_chunk::<8>()?;
    let (issued, tag) = rest.split_first_chunk::<8>()?;
    let times = DeviceTimes {
        since_us: i64::from_be_bytes(*since),
        issued_us: i64::from_be_bytes(*issued),
    };
    (*version == VERSION).then_some((times, *tag.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: SubjectKey = [7; 32];
    const TIMES: DeviceTimes = DeviceTimes {
        since_us: 1_700_000_000_000_000,
        issued_us: 1_763_856_000_000_001,
    };

    fn ring() -> KeyRing {
        KeyRing::new(&[(1, &[1; 32])], &[3; 32]).unwrap()
    }

    /// A token is accepted for its subject by every ring with the same index key, and no other.
    #[test]
    fn minted_tokens_are_accepted() {
        let token = ring().mint_device_token(&ADA, TIMES);
        assert_eq!(token.reveal().len(), DEVICE_TOKEN_LENGTH);
        assert!(is_device_token(token.reveal()));
        let rotated = KeyRing::new(&[(2, &[2; 32])], &[3; 32]).unwrap();
        for ring in [ring(), rotated] {
            assert_eq!(ring.check_device_token(token.reveal(), &ADA), Some(TIMES));
            assert_eq!(ring.check_device_token(token.reveal(), &[8; 32]), None);
        }
        let other = KeyRing::new(&[(1, &[1; 32])], &[4; 32]).unwrap();
        assert_eq!(other.check_device_token(token.reveal(), &ADA), None);
    }

    /// Times at the ends of their range are read back as they are.
    #[test]
    fn all_times_are_read_back() {
        for (since_us, issued_us) in [(0, 0), (-1, 1), (i64::MIN, i64::MAX)] {
            let times = DeviceTimes {
                since_us,
                issued_us,
            };
            let token = ring().mint_device_token(&ADA, times);
            assert_eq!(ring().check_device_token(token.reveal(), &ADA), Some(times));
        }
    }

    /// Another version has another form, whatever its tag.
    #[test]
    fn other_versions_are_refused() {
        let token = ring().mint_device_token(&ADA, TIMES);
        let mut raw = URL_SAFE_NO_PAD.decode(&token.reveal()[4..]).unwrap();
        for version in (0..=255).filter(|version| *version != VERSION) {
            raw[0] = version;
            let other = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&raw));
            assert_eq!(other.len(), DEVICE_TOKEN_LENGTH);
            assert!(!is_device_token(&other));
            assert_eq!(ring().check_device_token(&other, &ADA), None);
        }
    }
}
