//! HMAC-SHA-256 (RFC 2104, FIPS 198-1) under sub-keys made by HKDF-SHA-256 (RFC 5869).

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::secret::KEY_SIZE;

/// Bytes of the truncated MAC in a session token and in a service key.
///
/// 64 bits keep invented tokens away from the database; what admits a token is its 256-bit secret.
pub(crate) const TAG_SIZE: usize = 8;

/// SHA-256's block; HMAC itself pads a shorter key with zeros to this size.
const BLOCK_SIZE: usize = 64;

/// A sub-key, kept as the two hash states that HMAC starts from, which are wiped when dropped.
pub(crate) struct MacKey(Hmac<Sha256>);

impl MacKey {
    /// Derives the sub-key of `label` from `key`: empty salt, the label as `info`, 32 bytes.
    pub(crate) fn derive(key: &[u8; KEY_SIZE], label: &str) -> Result<Self, Error> {
        let mut block = Zeroizing::new([0_u8; BLOCK_SIZE]);
        let sub_key = block
            .first_chunk_mut::<KEY_SIZE>()
            .ok_or(Error::Derivation)?;
        Hkdf::<Sha256>::new(None, key)
            .expand(label.as_bytes(), sub_key)
            .map_err(|_| Error::Derivation)?;
        Ok(Self::from_block(&block))
    }

    fn from_block(block: &[u8; BLOCK_SIZE]) -> Self {
        Self(Hmac::new(block.into()))
    }

    /// Starts one message.
    pub(crate) fn message(&self) -> Message {
        Message(self.0.clone())
    }
}

/// A message under way to its MAC.
pub(crate) struct Message(Hmac<Sha256>);

impl Message {
    /// Appends bytes whose length is fixed by the format.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.update(bytes);
        self
    }

    /// Appends a field behind its length as 32-bit big-endian, so that no two lists of fields give
    /// the same message.
    pub(crate) fn field(self, bytes: &[u8]) -> Self {
        // No caller has 4 GiB; a length that saturates is still a total function.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.raw(&length.to_be_bytes()).raw(bytes)
    }

    /// Gives the whole 32 bytes, wiped when dropped.
    pub(crate) fn finish(self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.finalize().into_bytes().into())
    }

    /// Gives the first `SIZE` bytes, at most 32.
    pub(crate) fn tag<const SIZE: usize>(self) -> [u8; SIZE] {
        const { assert!(SIZE <= 32, "a MAC has 32 bytes") };
        let mut tag = [0_u8; SIZE];
        for (to, from) in tag.iter_mut().zip(self.finish().iter()) {
            *to = *from;
        }
        tag
    }

    /// Compares the tag in constant time.
    pub(crate) fn tag_matches<const SIZE: usize>(self, tag: [u8; SIZE]) -> bool {
        self.tag::<SIZE>().ct_eq(&tag).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::hex;
    use zeroize::ZeroizeOnDrop;

    /// RFC 4231, test case 1: a 20-byte key, padded to the block as `derive` pads its sub-keys.
    #[test]
    fn hmac_is_rfc_4231() {
        let mut block = [0_u8; BLOCK_SIZE];
        block[..20].fill(0x0b);
        let mac = MacKey::from_block(&block).message().raw(b"Hi There");
        assert_eq!(
            mac.finish().as_slice(),
            hex("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7")
        );
    }

    /// Moving a byte from one field to the next changes the message.
    #[test]
    fn fields_are_unambiguous() {
        let key = MacKey::derive(&[7; KEY_SIZE], "test").unwrap();
        let one = key.message().field(b"ab").field(b"c").finish();
        let other = key.message().field(b"a").field(b"bc").finish();
        assert_ne!(*one, *other);
    }

    /// A tag matches itself and no tag that differs in one bit.
    #[test]
    fn tags_differ_by_any_bit() {
        let key = MacKey::derive(&[7; KEY_SIZE], "test").unwrap();
        let tag = key.message().raw(b"x").tag::<TAG_SIZE>();
        assert!(key.message().raw(b"x").tag_matches(tag));
        for bit in 0..64_usize {
            let mut wrong = tag;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(!key.message().raw(b"x").tag_matches(wrong));
        }
    }

    /// The `zeroize` features of the primitives are on: without them this does not compile. The
    /// state of SHA-256 is all that a keyed HMAC is made of.
    #[test]
    fn keyed_states_are_wiped() {
        fn wiped<T: ZeroizeOnDrop>() {}
        wiped::<sha2::block_api::Sha256VarCore>();
    }
}
