//! The credential that a connection came with last: nearly all of its calls come with the same, and
//! to read one takes a MAC and a hash.

use std::sync::{Mutex, PoisonError};

use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

use crate::callers::Digest;

/// What was read last on one connection. Whose key it is, and whether it is still good, is asked
/// for each call.
#[derive(Default)]
pub(crate) struct LastCredential(Mutex<Option<(Zeroizing<Vec<u8>>, Digest)>>);

impl LastCredential {
    /// The digest of a credential; `read` is asked unless it is the last that was good.
    pub(crate) fn digest(
        &self,
        credential: &[u8],
        read: impl FnOnce() -> Option<Digest>,
    ) -> Option<Digest> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, digest)) = last.as_ref()
            && bool::from(same(known, credential))
        {
            return Some(*digest);
        }
        let digest = read()?;
        *last = Some((Zeroizing::new(credential.to_vec()), digest));
        Some(digest)
    }
}

/// Compares in constant time for their length, by words: by bytes it is a fiftieth of a hit.
fn same(one: &[u8], other: &[u8]) -> Choice {
    let ((words, rest), (other_words, other_rest)) = (one.as_chunks(), other.as_chunks());
    let mut same = Choice::from(u8::from(one.len() == other.len()));
    for (word, other_word) in words.iter().zip(other_words) {
        same &= u64::from_ne_bytes(*word).ct_eq(&u64::from_ne_bytes(*other_word));
    }
    same & rest.ct_eq(other_rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A difference in any byte is one, and so is any other length.
    #[test]
    fn every_byte_counts() {
        let known: Vec<u8> = (0..83).collect();
        for length in 0..=known.len() {
            let (beginning, _rest) = known.split_at(length);
            assert_eq!(bool::from(same(&known, beginning)), length == 83);
            let mut other = known.clone();
            if let Some(byte) = other.get_mut(length) {
                *byte ^= 0x80;
                assert!(!bool::from(same(&known, &other)));
            }
        }
    }

    /// Only the very same is known again, and a bad one is never kept.
    #[test]
    fn the_last_good_one_is_known() {
        let last = LastCredential::default();
        assert_eq!(last.digest(b"one", || None), None);
        assert_eq!(last.digest(b"one", || Some([1; 32])), Some([1; 32]));
        assert_eq!(last.digest(b"one", || None), Some([1; 32]));
        for other in [b"onE".as_slice(), b"on", b"one ", b""] {
            assert_eq!(last.digest(other, || None), None);
        }
        assert_eq!(last.digest(b"two", || Some([2; 32])), Some([2; 32]));
        assert_eq!(last.digest(b"two", || None), Some([2; 32]));
        assert_eq!(last.digest(b"one", || None), None);
    }
}
