//! Page tokens: `wwp_` and, in unpadded base64url,
//!
//! | bytes | holds |
//! |---|---|
//! | 1 | version, 1 |
//! | 0 to 64 | cursor: where the next page begins |
//! | 16 | tag: a MAC over listing and cursor, under a sub-key of the index key |
//!
//! The listing is in the tag alone: a token of another list, of other filters or of another person's
//! sessions is as good as an invented one. A page token is no secret.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::Error;
use crate::keys::KeyRing;
use crate::mac::Message;

const PREFIX: &str = "wwp_";
const VERSION: u8 = 1;
/// 128 bits: nothing but the tag admits a page token.
const PAGE_TAG_SIZE: usize = 16;

/// The longest cursor.
pub const CURSOR_MAX: usize = 64;

/// Characters of the longest page token, prefix and all.
pub const PAGE_TOKEN_LENGTH_MAX: usize = 112;

impl KeyRing {
    /// Makes the token of the page of a listing that begins after `cursor`.
    ///
    /// # Errors
    /// `CursorLength`.
    pub fn mint_page_token(&self, listing: &[u8], cursor: &[u8]) -> Result<String, Error> {
        if cursor.len() > CURSOR_MAX {
            return Err(Error::CursorLength);
        }
        let tag = self.tagged_page(listing, cursor).tag::<PAGE_TAG_SIZE>();
        let raw = [&[VERSION], cursor, &tag].concat();
        let mut token = PREFIX.to_owned();
        URL_SAFE_NO_PAD.encode_string(raw, &mut token);
        Ok(token)
    }

    /// Gives the cursor of a token of this listing; None unless its form is canonical and its tag
    /// right.
    #[must_use]
    pub fn parse_page_token(&self, listing: &[u8], token: &str) -> Option<Vec<u8>> {
        if token.len() > PAGE_TOKEN_LENGTH_MAX {
            return None;
        }
        let raw = URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX)?).ok()?;
        let (body, tag) = raw.split_last_chunk::<PAGE_TAG_SIZE>()?;
        let (version, cursor) = body.split_first()?;
        let right = *version == VERSION && self.tagged_page(listing, cursor).tag_matches(*tag);
        right.then(|| cursor.to_vec())
    }

    fn tagged_page(&self, listing: &[u8], cursor: &[u8]) -> Message {
        let message = self.page_tag.message().field(b"watchword/page/v1");
        message.field(listing).field(cursor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn ring() -> KeyRing {
        KeyRing::new(&[(1, &[1; 32])], &[3; 32]).unwrap()
    }

    /// A token is read back for its own listing alone, and by its own installation.
    #[test]
    fn a_token_is_of_its_listing() {
        let other = KeyRing::new(&[(1, &[1; 32])], &[4; 32]).unwrap();
        for cursor in [&b""[..], b"x", &[7; CURSOR_MAX]] {
            let token = ring().mint_page_token(b"users", cursor).unwrap();
            assert!(token.len() <= PAGE_TOKEN_LENGTH_MAX);
            assert_eq!(ring().parse_page_token(b"users", &token).unwrap(), cursor);
            assert!(ring().parse_page_token(b"user", &token).is_none());
            assert!(other.parse_page_token(b"users", &token).is_none());
        }
        let most = ring().mint_page_token(b"", &[7; CURSOR_MAX]).unwrap();
        assert_eq!(most.len(), PAGE_TOKEN_LENGTH_MAX);
        let longer = ring().mint_page_token(b"", &[7; CURSOR_MAX + 1]);
        assert_eq!(longer.unwrap_err(), Error::CursorLength);
    }

    proptest! {
        /// Whatever is changed in a token, or invented, is none.
        #[test]
        fn forged(text in ".{0,130}", cursor in vec(any::<u8>(), 0..=CURSOR_MAX), at: prop::sample::Index, to in "[A-Za-z0-9_=-]") {
            prop_assert_eq!(ring().parse_page_token(b"users", &text), None);
            let token = ring().mint_page_token(b"users", &cursor).unwrap();
            let at = at.index(token.len());
            let changed = format!("{}{to}{}", &token[..at], &token[at + 1..]);
            let read = ring().parse_page_token(b"users", &changed);
            prop_assert_eq!(read.is_some(), changed == token);
        }
    }
}
