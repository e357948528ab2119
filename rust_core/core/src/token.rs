//! Session tokens: `ww_` and 57 bytes in unpadded base64url.
//!
//! | bytes | holds |
//! |---|---|
//! | 1 | id of the key that signed |
//! | 16 | session id |
//! | 32 | secret |
//! | 8 | tag: a MAC over the rest, so that invented tokens cost the database nothing |
//!
//! What is stored is the verifier, a MAC over session id and secret: who reads the table holds no
//! token. Another format gets another prefix.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::keys::{KeyRing, RingKey};
use crate::mac::{Message, TAG_SIZE};
use crate::secret::{Id, KEY_SIZE, Secret, new_id, random};

const PREFIX: &str = "ww_";
const RAW_SIZE: usize = 57;

/// Characters of a session token, prefix and all.
pub const SESSION_TOKEN_LENGTH: usize = 79;

/// The MAC in a token over the rest of it.
pub type Tag = [u8; TAG_SIZE];

/// What is stored of a session's secret: HMAC-SHA-256 over session id and secret, 32 bytes.
pub type Verifier = [u8; 32];

/// A new session's token and what is to be stored of it.
pub struct MintedSession {
    /// For the user, once.
    pub token: Secret,
    /// A new `UUIDv8` in the slot that was asked for.
    pub session_id: Id,
    /// The key of the ring that signed.
    pub key_id: u8,
    /// To be stored.
    pub verifier: Verifier,
}

impl fmt::Debug for MintedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MintedSession([redacted])")
    }
}

/// What a token with a right tag says; whether such a session lives is the storage's to know.
#[derive(Clone)]
pub struct PresentedSession {
    /// Says which row to compare with.
    pub session_id: Id,
    /// The key of the ring that signed.
    pub key_id: u8,
    /// To be compared with the stored one by [`verifier_matches`].
    pub verifier: Verifier,
}

impl fmt::Debug for PresentedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresentedSession([redacted])")
    }
}

/// A token of canonical form and of a key of the ring; whether its tag is right is not known yet.
/// That need not be asked of a token that is known to be right from before.
pub struct ReadSession {
    presented: PresentedSession,
    /// Boxed, so that no copy stays behind where it is handed on.
    secret: Box<Zeroizing<[u8; KEY_SIZE]>>,
    tag: Tag,
}

impl ReadSession {
    /// What it says, be its tag right or not.
    #[must_use]
    pub fn presented(&self) -> &PresentedSession {
        &self.presented
    }

    /// The tag, right or not.
    #[must_use]
    pub fn tag(&self) -> Tag {
        self.tag
    }
}

impl fmt::Debug for ReadSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadSession([redacted])")
    }
}

/// The token that follows another of the same session, and what is to be stored of it.
pub struct RefreshedSession {
    /// For the user.
    pub token: Secret,
    /// To be stored.
    pub verifier: Verifier,
}

impl fmt::Debug for RefreshedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshedSession([redacted])")
    }
}

impl KeyRing {
    /// Makes the token of a new session of a user in `slot`, 0..=4095.
    ///
    /// # Errors
    /// `SlotRange`, `Randomness`.
    pub fn mint_session(&self, slot: u16) -> Result<MintedSession, Error> {
        let key = self.signing();
        let session_id = new_id(slot)?;
        let secret = random::<KEY_SIZE>()?;
        Ok(MintedSession {
            token: write_token(key, &session_id, &secret),
            session_id,
            key_id: key.id,
            verifier: verifier(key, &session_id, &secret),
        })
    }

    /// Reads a token; None unless its form is canonical, its key known and its tag right.
    #[must_use]
    pub fn parse_session_token(&self, token: &str) -> Option<PresentedSession> {
        self.read_right_token(token).map(|read| read.presented)
    }

    /// Reads a token; None unless its form is canonical and its key known. Whoever asks a database
    /// because of it asks [`KeyRing::has_right_tag`] before.
    #[must_use]
    pub fn read_session_token(&self, token: &str) -> Option<ReadSession> {
        if token.len() != SESSION_TOKEN_LENGTH {
            return None;
        }
        let mut raw = Zeroizing::new([0_u8; RAW_SIZE]);
        let size = URL_SAFE_NO_PAD
            .decode_slice(token.strip_prefix(PREFIX)?, raw.as_mut_slice())
            .ok()?;
        if size != RAW_SIZE {
            return None;
        }
        let (key_id, rest) = raw.split_first()?;
        let (session_id, rest) = rest.split_first_chunk::<16>()?;
        let (secret, rest) = rest.split_first_chunk::<KEY_SIZE>()?;
        let tag = *rest.first_chunk::<TAG_SIZE>()?;
        let key = self.find(*key_id)?;
        let mut kept = Box::new(Zeroizing::new([0_u8; KEY_SIZE]));
        kept.copy_from_slice(secret);
        Some(ReadSession {
            presented: PresentedSession {
                session_id: *session_id,
                key_id: key.id,
                verifier: verifier(key, session_id, secret),
            },
            secret: kept,
            tag,
        })
    }

    fn read_right_token(&self, token: &str) -> Option<ReadSession> {
        self.read_session_token(token)
            .filter(|read| self.has_right_tag(read))
    }

    /// Whether this ring made the token.
    #[must_use]
    pub fn has_right_tag(&self, read: &ReadSession) -> bool {
        let PresentedSession {
            session_id, key_id, ..
        } = &read.presented;
        self.find(*key_id)
            .is_some_and(|key| tagged(key, session_id, &read.secret).tag_matches(read.tag))
    }

    /// Makes the token that follows this one, whose secret is the `generation`-th of its session,
    /// signed by the key `key_id`: always the same, so that whoever presents the same token gets the
    /// same new one. None where [`KeyRing::parse_session_token`] gives none, or without that key.
    #[must_use]
    pub fn refresh_session(
        &self,
        token: &str,
        generation: i64,
        key_id: u8,
    ) -> Option<RefreshedSession> {
        let next = self.find(key_id)?;
        let read = self.read_right_token(token)?;
        let session_id = &read.presented.session_id;
        let message = next.session_refresh.message().raw(session_id);
        let message = message.raw(&generation.to_be_bytes());
        let secret = message.raw(read.secret.as_slice()).finish();
        Some(RefreshedSession {
            token: write_token(next, session_id, &secret),
            verifier: verifier(next, session_id, &secret),
        })
    }
}

/// Compares two verifiers in constant time; lengths that differ do not match.
#[must_use]
pub fn verifier_matches(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

pub(crate) fn write_token(key: &RingKey, session_id: &Id, secret: &[u8; KEY_SIZE]) -> Secret {
    let tag = tagged(key, session_id, secret).tag::<TAG_SIZE>();
    let mut raw = Zeroizing::new(Vec::with_capacity(RAW_SIZE));
    raw.push(key.id);
    raw.extend_from_slice(session_id);
    raw.extend_from_slice(secret);
    raw.extend_from_slice(&tag);
    // Exactly as large as needed: growing would leave copies behind.
    let mut token = Zeroizing::new(String::with_capacity(SESSION_TOKEN_LENGTH));
    token.push_str(PREFIX);
    URL_SAFE_NO_PAD.encode_string(raw.as_slice(), &mut token);
    Secret::new(token)
}

pub(crate) fn verifier(key: &RingKey, session_id: &Id, secret: &[u8; KEY_SIZE]) -> Verifier {
    let message = key.session_verifier.message();
    *message.raw(session_id).raw(secret).finish()
}

fn tagged(key: &RingKey, session_id: &Id, secret: &[u8; KEY_SIZE]) -> Message {
    let message = key.session_tag.message().field(b"watchword/session/v1");
    message.raw(&[key.id]).raw(session_id).raw(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::slot_of;

    fn ring() -> KeyRing {
        KeyRing::new(&[(1, &[1; 32]), (2, &[2; 32])], &[3; 32]).unwrap()
    }

    /// A token reads back as the session that it was made for, also after a rotation.
    #[test]
    fn minted_tokens_are_read_back() {
        let rotated = KeyRing::new(&[(2, &[2; 32]), (1, &[1; 32])], &[3; 32]).unwrap();
        for slot in [0, 1, 4095] {
            let minted = ring().mint_session(slot).unwrap();
            assert_eq!(minted.token.reveal().len(), SESSION_TOKEN_LENGTH);
            assert_eq!(slot_of(&minted.session_id), slot);
            assert_eq!(minted.key_id, 1);
            for ring in [&ring(), &rotated] {
                let read = ring.parse_session_token(minted.token.reveal()).unwrap();
                assert_eq!(read.session_id, minted.session_id);
                assert_eq!(read.key_id, 1);
                assert!(verifier_matches(&read.verifier, &minted.verifier));
            }
        }
        assert_eq!(ring().mint_session(4096).unwrap_err(), Error::SlotRange);
    }

    /// A token of a key that the ring no longer holds, or holds under another id, is refused.
    #[test]
    fn keys_that_are_gone_verify_nothing() {
        let token = ring().mint_session(5).unwrap().token;
        for keys in [(2, [2; 32]), (2, [1; 32]), (1, [2; 32])] {
            let other = KeyRing::new(&[(keys.0, &keys.1)], &[3; 32]).unwrap();
            assert!(other.parse_session_token(token.reveal()).is_none());
        }
    }

    /// The verifier depends on session id, secret and key.
    #[test]
    fn verifiers_bind_their_session() {
        let ring = ring();
        let (one, two) = (ring.find(1).unwrap(), ring.find(2).unwrap());
        let base = verifier(one, &[1; 16], &[1; 32]);
        assert!(!verifier_matches(&base, &verifier(one, &[2; 16], &[1; 32])));
        assert!(!verifier_matches(&base, &verifier(one, &[1; 16], &[2; 32])));
        assert!(!verifier_matches(&base, &verifier(two, &[1; 16], &[1; 32])));
        assert!(!verifier_matches(&base, &base[..31]));
        assert!(!verifier_matches(&base, &[]));
    }

    /// The next token is of the same session and another secret; it depends on the token before it,
    /// the generation and the key, and is the same whoever asks.
    #[test]
    fn a_refresh_is_the_same_for_all() {
        let rotated = KeyRing::new(&[(2, &[2; 32]), (1, &[1; 32])], &[3; 32]).unwrap();
        let minted = ring().mint_session(5).unwrap();
        let first = minted.token.reveal();
        let next = ring().refresh_session(first, 0, 1).unwrap();
        let again = rotated.refresh_session(first, 0, 1).unwrap();
        assert_eq!(next.token.reveal(), again.token.reveal());
        let read = rotated.parse_session_token(next.token.reveal()).unwrap();
        assert_eq!((read.session_id, read.key_id), (minted.session_id, 1));
        assert_eq!(read.verifier, next.verifier);
        let others = [(first, 1, 1), (first, 0, 2), (next.token.reveal(), 0, 1)];
        for (token, generation, key_id) in others {
            let other = ring().refresh_session(token, generation, key_id).unwrap();
            assert!(!verifier_matches(&other.verifier, &next.verifier));
        }
        assert!(ring().refresh_session(first, 0, 3).is_none());
        assert!(
            ring()
                .refresh_session(&first.replace("ww_", "wx_"), 0, 1)
                .is_none()
        );
    }

    /// A token with another tag is read, and known not to be right.
    #[test]
    fn a_tag_is_looked_at_when_asked() {
        let minted = ring().mint_session(5).unwrap();
        let token = minted.token.reveal();
        let read = ring().read_session_token(token).unwrap();
        assert!(ring().has_right_tag(&read));
        let last = if token.ends_with('A') { 'B' } else { 'A' };
        let other = format!("{}{last}", &token[..SESSION_TOKEN_LENGTH - 1]);
        let wrong = ring().read_session_token(&other).unwrap();
        assert_eq!(wrong.presented().verifier, read.presented().verifier);
        assert_ne!(wrong.tag(), read.tag());
        assert!(!ring().has_right_tag(&wrong));
        assert!(ring().parse_session_token(&other).is_none());
        assert!(ring().refresh_session(&other, 0, 1).is_none());
    }

    /// Neither side of a token shows anything in Debug.
    #[test]
    fn debug_is_redacted() {
        let minted = ring().mint_session(5).unwrap();
        let read = ring().parse_session_token(minted.token.reveal()).unwrap();
        assert_eq!(format!("{minted:?}"), "MintedSession([redacted])");
        assert_eq!(format!("{read:#?}"), "PresentedSession([redacted])");
        let read = ring().read_session_token(minted.token.reveal()).unwrap();
        assert_eq!(format!("{read:?}"), "ReadSession([redacted])");
        let next = ring().refresh_session(minted.token.reveal(), 0, 1).unwrap();
        assert_eq!(format!("{next:?}"), "RefreshedSession([redacted])");
    }
}
