//! Subjects: addresses as tables know them.

use crate::keys::KeyRing;
use crate::secret::SLOT_MAX;

/// HMAC-SHA-256 of an account key under the index key; 32 bytes.
pub type SubjectKey = [u8; 32];

impl KeyRing {
    /// Gives the subject key of an account key, which the caller has brought to its canonical form.
    #[must_use]
    pub fn subject_key(&self, account_key: &str) -> SubjectKey {
        *self.subject.message().raw(account_key.as_bytes()).finish()
    }
}

/// Gives the slot of a subject, 0..=4095: the low 12 bits of the first two bytes, big-endian.
#[must_use]
pub fn slot_of_subject(subject_key: &SubjectKey) -> u16 {
    let [high, low, ..] = *subject_key;
    u16::from_be_bytes([high, low]) & SLOT_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Subjects depend on the index key alone, so the ring may rotate under them.
    #[test]
    fn subjects_outlive_rotation() {
        let one = KeyRing::new(&[(1, &[1; 32])], &[3; 32]).unwrap();
        let two = KeyRing::new(&[(2, &[2; 32]), (1, &[1; 32])], &[3; 32]).unwrap();
        let other = KeyRing::new(&[(1, &[1; 32])], &[4; 32]).unwrap();
        let key = one.subject_key("ada@example.com");
        assert_eq!(key, two.subject_key("ada@example.com"));
        assert_ne!(key, other.subject_key("ada@example.com"));
        assert_ne!(key, one.subject_key("bob@example.com"));
    }

    /// The slot is read from the first two bytes, without their upper four bits.
    #[test]
    fn slot_is_twelve_bits() {
        let mut key = [0xff; 32];
        assert_eq!(slot_of_subject(&key), 4095);
        key[0] = 0xf1;
        key[1] = 0x23;
        assert_eq!(slot_of_subject(&key), 0x123);
    }
}
