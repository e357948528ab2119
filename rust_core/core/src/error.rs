//! What a program, not a person, can get wrong.

use std::fmt;

/// A wrong argument, or an operating system that gives no randomness. No variant holds a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The key ring has no key.
    RingEmpty,
    /// A key id outside 1..=255.
    KeyIdRange,
    /// The same key id twice in one ring.
    KeyIdTwice(u8),
    /// The key of this id once more under another.
    KeyTwice(u8),
    /// A key that is not 32 bytes.
    KeyLength,
    /// A key id that the ring does not hold.
    KeyIdUnknown(u8),
    /// A code length other than 6..=10 digits and 13 characters.
    CodeLength,
    /// A slot outside 0..=4095.
    SlotRange,
    /// A field that is not as long as its type says: name of the field, bytes that it needs.
    FieldLength(&'static str, usize),
    /// A change token of no changes, or of more than it holds.
    ChangeCount,
    /// A page token's cursor that is too long.
    CursorLength,
    /// A primitive refused an output length that it always accepts.
    Derivation,
    /// The operating system gave no randomness; there is no fallback.
    Randomness,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RingEmpty => f.write_str("the key ring holds no key"),
            Self::KeyIdRange => f.write_str("a key id must be 1..255"),
            Self::KeyIdTwice(id) => write!(f, "the key ring holds key id {id} twice"),
            Self::KeyTwice(id) => {
                write!(f, "the key ring holds the key of id {id} under another id")
            }
            Self::KeyLength => f.write_str("a key must be 32 bytes"),
            Self::KeyIdUnknown(id) => write!(f, "the key ring does not hold key id {id}"),
            Self::CodeLength => f.write_str("a code must have 6 to 10 digits or 13 characters"),
            Self::SlotRange => f.write_str("a slot must be 0..4095"),
            Self::FieldLength(name, size) => write!(f, "`{name}` must be {size} bytes"),
            Self::ChangeCount => f.write_str("a change token must have 1 to 5 changes"),
            Self::CursorLength => f.write_str("a page token's cursor must have at most 64 bytes"),
            Self::Derivation => f.write_str("a key or a code could not be derived"),
            Self::Randomness => f.write_str("the operating system gives no randomness"),
        }
    }
}

impl std::error::Error for Error {}
