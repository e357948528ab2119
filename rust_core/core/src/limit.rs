//! Limit keys: mailboxes and network addresses as the limiter's table knows them.

use crate::keys::KeyRing;

/// HMAC-SHA-256 of a kind and a value under a sub-key of the index key; 32 bytes.
pub type LimitKey = [u8; 32];

impl KeyRing {
    /// Gives the limit key of a canonical value; the same value of another kind has another key.
    #[must_use]
    pub fn limit_key(&self, kind: &str, value: &[u8]) -> LimitKey {
        *self
            .limit
            .message()
            .field(kind.as_bytes())
            .field(value)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Limits depend on the index key alone, so rotating the ring starts no count again.
    #[test]
    fn limits_outlive_rotation() {
        let one = KeyRing::new(&[(1, &[1; 32])], &[3; 32]).unwrap();
        let two = KeyRing::new(&[(2, &[2; 32]), (1, &[1; 32])], &[3; 32]).unwrap();
        let other = KeyRing::new(&[(1, &[1; 32])], &[4; 32]).unwrap();
        let key = one.limit_key("client", &[192, 0, 2, 1]);
        assert_eq!(key, two.limit_key("client", &[192, 0, 2, 1]));
        assert_ne!(key, other.limit_key("client", &[192, 0, 2, 1]));
    }

    /// Kind and value are fields of their own, and no subject has the key of a mailbox.
    #[test]
    fn kinds_are_kept_apart() {
        let ring = KeyRing::new(&[(1, &[1; 32])], &[3; 32]).unwrap();
        let key = ring.limit_key("mailbox", b"ada@example.com");
        assert_ne!(key, ring.limit_key("client", b"ada@example.com"));
        assert_ne!(key, ring.limit_key("mailboxa", b"da@example.com"));
        assert_ne!(key, ring.subject_key("ada@example.com"));
    }
}
