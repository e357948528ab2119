//! Randomness, secrets as values, and ids (`UUIDv8`, RFC 9562 section 5.8).

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use zeroize::Zeroizing;

use crate::error::Error;

/// Bytes of a key of the ring, of the index key and of the secrets in tokens.
pub const KEY_SIZE: usize = 32;

/// The last slot; slots are the low 12 bits of an id.
pub const SLOT_MAX: u16 = 4095;

/// A `UUIDv8` as 16 bytes, in the order in which it is written.
pub type Id = [u8; 16];

/// Text that must not be seen: wiped when dropped, printed as `[redacted]`.
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub(crate) fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// Shows the text; the copies made of it are the caller's.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Fills an array from the operating system, anew at each call, so a fork shares nothing.
pub(crate) fn random<const SIZE: usize>() -> Result<Zeroizing<[u8; SIZE]>, Error> {
    let mut bytes = Zeroizing::new([0_u8; SIZE]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|_| Error::Randomness)?;
    Ok(bytes)
}

/// Makes a key for a ring, 256 bits from the operating system.
///
/// # Errors
/// `Randomness`.
pub fn random_key() -> Result<Zeroizing<[u8; KEY_SIZE]>, Error> {
    random()
}

/// Makes an id: 48-bit Unix milliseconds, version and variant, 62 random bits, 12 bits of slot.
///
/// The milliseconds are the operating system's, for locality in indexes alone: nothing compares
/// them, so a clock that is wrong, even before 1970, does no harm.
///
/// # Errors
/// `SlotRange` above [`SLOT_MAX`], `Randomness`.
pub fn new_id(slot: u16) -> Result<Id, Error> {
    if slot > SLOT_MAX {
        return Err(Error::SlotRange);
    }
    let low = u128::from(slot);
    Ok(with_time(low | (random_bits()? & !u128::from(SLOT_MAX))))
}

/// Makes an id in a random slot, as users have.
///
/// # Errors
/// `Randomness`.
pub fn new_id_random_slot() -> Result<Id, Error> {
    Ok(with_time(random_bits()?))
}

/// Gives the slot of an id, 0..=4095.
#[must_use]
pub fn slot_of(id: &Id) -> u16 {
    let [.., high, low] = *id;
    u16::from_be_bytes([high, low]) & SLOT_MAX
}

fn random_bits() -> Result<u128, Error> {
    Ok(u128::from_be_bytes(*random::<16>()?))
}

/// Puts time, version and variant over 74 bits that stay as they are.
fn with_time(bits: u128) -> Id {
    const TIME: u128 = 0xffff_ffff_ffff << 80;
    const VERSION: u128 = 0xf << 76;
    const VARIANT: u128 = 0b11 << 62;
    let milliseconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_millis());
    let kept = bits & !(TIME | VERSION | VARIANT);
    (kept | ((milliseconds << 80) & TIME) | (0x8 << 76) | (0b10 << 62)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn check_layout(id: Id) {
        assert_eq!(id[6] >> 4, 8, "version");
        assert_eq!(id[8] >> 6, 0b10, "variant");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let mut time = [0; 8];
        time[2..].copy_from_slice(&id[..6]);
        let age = now.as_millis() - u128::from(u64::from_be_bytes(time));
        assert!(age < 60_000, "the id is {age} ms old");
    }

    /// Every slot comes back out of an id made for it; one more is refused.
    #[test]
    fn ids_keep_their_slot() {
        for slot in 0..=SLOT_MAX {
            let id = new_id(slot).unwrap();
            check_layout(id);
            assert_eq!(slot_of(&id), slot);
        }
        for slot in [SLOT_MAX + 1, u16::MAX] {
            assert_eq!(new_id(slot), Err(Error::SlotRange));
        }
    }

    /// Ids of one slot do not repeat, and each of their 62 random bits is sometimes 0 and 1.
    #[test]
    fn ids_are_random() {
        let ids: HashSet<u128> = (0..2_000)
            .map(|_| u128::from_be_bytes(new_id(7).unwrap()))
            .collect();
        assert_eq!(ids.len(), 2_000);
        let any = ids.iter().fold(0, |seen, id| seen | id);
        let all = ids.iter().fold(u128::MAX, |seen, id| seen & id);
        let random = (0xfff << 64) | (((1_u128 << 50) - 1) << 12);
        assert_eq!((any ^ all) & !(0xffff_ffff_ffff << 80), random);
    }

    /// Ids in random slots reach most of the 4096 slots.
    #[test]
    fn slots_are_random() {
        let slots: HashSet<u16> = (0..20_000)
            .map(|_| {
                let id = new_id_random_slot().unwrap();
                check_layout(id);
                slot_of(&id)
            })
            .collect();
        assert!(slots.len() > 3_900, "{} slots", slots.len());
    }

    /// Two keys differ, and Debug of a secret shows nothing of it.
    #[test]
    fn keys_differ_and_secrets_are_redacted() {
        assert_ne!(*random_key().unwrap(), *random_key().unwrap());
        let secret = Secret::new(Zeroizing::new("482913".to_owned()));
        assert_eq!(format!("{secret:?}"), "[redacted]");
        assert_eq!(secret.reveal(), "482913");
    }
}
