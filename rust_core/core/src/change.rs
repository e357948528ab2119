//! Change tokens: `wwc_` and, in unpadded base64url,
//!
//! | bytes | holds |
//! |---|---|
//! | 1 | version, 1 |
//! | 33 each, 1 to 5 of them | kind 1, id 16, epoch 8, version 8; numbers are big-endian |
//! | 16 | tag: a MAC over the rest, under a sub-key of the index key |
//!
//! A token is what a mutation has come to: a replica that knows at least as much may answer from
//! its cache. It is no secret. The tag keeps invented ones from making every answer cost a look-up.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::Error;
use crate::keys::KeyRing;
use crate::mac::Message;
use crate::secret::Id;

const PREFIX: &str = "wwc_";
const VERSION: u8 = 1;
const ENTRY_SIZE: usize = 33;
/// 128 bits: nothing but the tag admits a change token, unlike a session's.
const CHANGE_TAG_SIZE: usize = 16;

/// How many changes one token holds at most.
pub const CHANGES_MAX: usize = 5;

/// Characters of the longest change token, prefix and all.
pub const CHANGE_TOKEN_LENGTH_MAX: usize = 247;

/// What something has come to by a change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KnownChange {
    /// 1 user, 2 role, 3 service key, 4 installation. Other kinds are of newer programs.
    pub kind: u8,
    /// The user's id; of a role 16 bytes of a hash of its name.
    pub id: Id,
    /// Sessions below it are dead.
    pub epoch: i64,
    /// What was read at an older version is out of date.
    pub version: i64,
}

impl KnownChange {
    /// The kind of a user's change.
    pub const USER: u8 = 1;

    fn write(&self, raw: &mut Vec<u8>) {
        raw.push(self.kind);
        raw.extend_from_slice(&self.id);
        raw.extend_from_slice(&self.epoch.to_be_bytes());
        raw.extend_from_slice(&self.version.to_be_bytes());
    }

    fn read(raw: &[u8]) -> Option<Self> {
        let (kind, rest) = raw.split_first()?;
        let (id, rest) = rest.split_first_chunk::<16>()?;
        let (epoch, rest) = rest.split_first_chunk::<8>()?;
        let (version, rest) = rest.split_first_chunk::<8>()?;
        rest.is_empty().then_some(Self {
            kind: *kind,
            id: *id,
            epoch: i64::from_be_bytes(*epoch),
            version: i64::from_be_bytes(*version),
        })
    }
}

impl KeyRing {
    /// Makes the token of 1 to [`CHANGES_MAX`] changes.
    ///
    /// # Errors
    /// `ChangeCount`.
    pub fn mint_change_token(&self, changes: &[KnownChange]) -> Result<String, Error> {
        if changes.is_empty() || changes.len() > CHANGES_MAX {
            return Err(Error::ChangeCount);
        }
        let mut raw = vec![VERSION];
        for change in changes {
            change.write(&mut raw);
        }
        let tag = self.tagged_change(&raw).tag::<CHANGE_TAG_SIZE>();
        raw.extend_from_slice(&tag);
        let mut token = PREFIX.to_owned();
        URL_SAFE_NO_PAD.encode_string(raw, &mut token);
        Ok(token)
    }

    /// Gives what a token says; None unless its form is canonical and its tag right.
    #[must_use]
    pub fn parse_change_token(&self, token: &str) -> Option<Vec<KnownChange>> {
        if token.len() > CHANGE_TOKEN_LENGTH_MAX {
            return None;
        }
        let raw = URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX)?).ok()?;
        let (body, tag) = raw.split_last_chunk::<CHANGE_TAG_SIZE>()?;
        let (version, entries) = body.split_first()?;
        let whole = !entries.is_empty() && entries.len().is_multiple_of(ENTRY_SIZE);
        if *version != VERSION || !whole || !self.tagged_change(body).tag_matches(*tag) {
            return None;
        }
        entries
            .chunks_exact(ENTRY_SIZE)
            .map(KnownChange::read)
            .collect()
    }

    fn tagged_change(&self, body: &[u8]) -> Message {
        let message = self.change_tag.message().field(b"watchword/change/v1");
        message.field(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGE: KnownChange = KnownChange {
        kind: 1,
        id: [7; 16],
        epoch: 3,
        version: 41,
    };

    fn ring() -> KeyRing {
        KeyRing::new(&[(1, &[1; 32])], &[3; 32]).unwrap()
    }

    /// A token is read by every ring with the same index key, and no other.
    #[test]
    fn minted_tokens_are_read() {
        for number in 1..=CHANGES_MAX {
            let changes = vec![CHANGE; number];
            let token = ring().mint_change_token(&changes).unwrap();
            let rotated = KeyRing::new(&[(2, &[2; 32])], &[3; 32]).unwrap();
            for ring in [ring(), rotated] {
                assert_eq!(ring.parse_change_token(&token), Some(changes.clone()));
            }
            let other = KeyRing::new(&[(1, &[1; 32])], &[4; 32]).unwrap();
            assert_eq!(other.parse_change_token(&token), None);
            assert_eq!(
                token.len() == CHANGE_TOKEN_LENGTH_MAX,
                number == CHANGES_MAX
            );
        }
    }

    /// No changes, or too many, have no token.
    #[test]
    fn the_number_is_bounded() {
        for number in [0, CHANGES_MAX + 1] {
            let refused = ring().mint_change_token(&vec![CHANGE; number]);
            assert_eq!(refused, Err(Error::ChangeCount));
        }
    }

    /// Another version, no entry and a part of one are refused, though their tags are right.
    #[test]
    fn other_forms_are_refused() {
        let sealed = |body: &[u8]| {
            let mut raw = body.to_vec();
            raw.extend_from_slice(&ring().tagged_change(body).tag::<CHANGE_TAG_SIZE>());
            format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(raw))
        };
        let mut body = vec![VERSION];
        CHANGE.write(&mut body);
        assert!(ring().parse_change_token(&sealed(&body)).is_some());
        for size in 0..body.len() {
            assert_eq!(ring().parse_change_token(&sealed(&body[..size])), None);
        }
        for version in (0..=255).filter(|version| *version != VERSION) {
            body[0] = version;
            assert_eq!(ring().parse_change_token(&sealed(&body)), None);
        }
    }
}
