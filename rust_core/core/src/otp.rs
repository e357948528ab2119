//! One-time codes: derived from a challenge, never stored.
//!
//! A code is an HMAC over the fields of its challenge, read as a decimal number. It follows HOTP
//! (RFC 4226) in idea but keys on the challenge instead of a counter and takes its digits without
//! bias, by rejection instead of truncation.

use std::fmt::Write as _;

use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::keys::{KeyRing, RingKey};
use crate::secret::{Id, Secret, random};
use crate::subject::SubjectKey;

/// Bytes of a challenge's nonce.
pub const NONCE_SIZE: usize = 16;
/// Digits of the shortest code.
pub const CODE_LENGTH_MIN: u8 = 6;
/// Digits of the longest code.
pub const CODE_LENGTH_MAX: u8 = 10;
/// The form of a code of 13 Crockford base32 characters, 65 bits.
pub const LONG_FORM: u8 = 13;

/// Bytes of the longest text that is looked at; a code with a dash or a space between any two
/// characters is far shorter.
const TEXT_SIZE_MAX: usize = 64;

/// The fields of a challenge from which its code follows.
#[derive(Clone, Copy, Debug)]
pub struct CodeSource<'a> {
    /// The key of the ring that was first when the challenge was made.
    pub key_id: u8,
    /// What the code is for; a code for one purpose is none for another.
    pub purpose: &'a str,
    /// The challenge's id.
    pub challenge_id: &'a Id,
    /// The subject that the challenge is about.
    pub subject_key: &'a SubjectKey,
    /// From [`new_nonce`], stored with the challenge.
    pub nonce: &'a [u8; NONCE_SIZE],
}

/// What a person typed, in canonical form.
#[derive(Debug)]
pub struct ParsedCode {
    /// Number of digits, 6..=10, or [`LONG_FORM`].
    pub form: u8,
    /// Digits, or upper-case Crockford base32.
    pub canonical: Secret,
}

/// Makes the nonce of a challenge.
///
/// # Errors
/// `Randomness`.
pub fn new_nonce() -> Result<[u8; NONCE_SIZE], Error> {
    random().map(|nonce| *nonce)
}

/// Reads what a person typed; None when it has no accepted form.
///
/// Ignored anywhere: Unicode white space, `-`, the dashes U+2010..=U+2015 and the minus U+2212.
/// Accepted: 6..=10 ASCII digits, or 13 characters of Crockford base32 in any case, with `O` read
/// as 0 and `I` and `L` as 1; 13 characters are base32 even if all are digits.
#[must_use]
pub fn parse_code(text: &str) -> Option<ParsedCode> {
    if text.len() > TEXT_SIZE_MAX {
        return None;
    }
    let mut canonical = Zeroizing::new(String::with_capacity(usize::from(LONG_FORM)));
    let mut digits_only = true;
    for character in text.chars().filter(|character| !is_ignored(*character)) {
        if canonical.len() == usize::from(LONG_FORM) {
            return None;
        }
        digits_only &= character.is_ascii_digit();
        canonical.push(base32_symbol(character)?);
    }
    let form = u8::try_from(canonical.len()).ok()?;
    match form {
        CODE_LENGTH_MIN..=CODE_LENGTH_MAX if digits_only => {}
        LONG_FORM => {}
        _ => return None,
    }
    Some(ParsedCode {
        form,
        canonical: Secret::new(canonical),
    })
}

fn is_ignored(character: char) -> bool {
    character.is_whitespace() || matches!(character, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

fn base32_symbol(character: char) -> Option<char> {
    match character.to_ascii_uppercase() {
        'O' => Some('0'),
        'I' | 'L' => Some('1'),
        'U' => None,
        other => other.is_ascii_alphanumeric().then_some(other),
    }
}

impl KeyRing {
    /// Derives the code of a challenge, `length` digits with leading zeros, `length` being 6..=10.
    ///
    /// # Errors
    /// `CodeLength`, `KeyIdUnknown`.
    pub fn derive_code(&self, source: &CodeSource<'_>, length: u8) -> Result<Secret, Error> {
        let modulus = modulus(length).ok_or(Error::CodeLength)?;
        let key = self
            .find(source.key_id)
            .ok_or(Error::KeyIdUnknown(source.key_id))?;
        let value = code_value(key, source, modulus).ok_or(Error::Derivation)?;
        let width = usize::from(length);
        let mut code = Zeroizing::new(String::with_capacity(width));
        write!(code, "{value:0width$}").map_err(|_| Error::Derivation)?;
        Ok(Secret::new(code))
    }

    /// Gives the index of the first candidate whose code is `canonical`.
    ///
    /// Every candidate is derived and compared in constant time, whether or not an earlier one
    /// matched; one whose key the ring does not hold costs the same and never matches. `canonical`
    /// and `form` are those of a [`ParsedCode`]; forms whose codes are not derived match nothing.
    #[must_use]
    pub fn check_code(
        &self,
        canonical: &str,
        form: u8,
        candidates: &[CodeSource<'_>],
    ) -> Option<usize> {
        let modulus = modulus(form)?;
        let presented = number(canonical, form)?;
        let mut found = Choice::from(0);
        let mut first = 0_u64;
        for (index, source) in (0_u64..).zip(candidates) {
            let known = self.find(source.key_id);
            let value = code_value(known.unwrap_or(self.signing()), source, modulus);
            let equal = value.unwrap_or(u64::MAX).ct_eq(&presented);
            let hit = equal & Choice::from(u8::from(known.is_some())) & !found;
            first.conditional_assign(&index, hit);
            found |= hit;
        }
        let first = usize::try_from(first).ok()?;
        bool::from(found).then_some(first)
    }
}

/// 10^length for the lengths that codes have.
fn modulus(length: u8) -> Option<u64> {
    (CODE_LENGTH_MIN..=CODE_LENGTH_MAX)
        .contains(&length)
        .then(|| 10_u64.checked_pow(u32::from(length)))?
}

/// Codes of one length and numbers below its modulus are the same thing; numbers compare in
/// constant time without a buffer.
fn number(canonical: &str, form: u8) -> Option<u64> {
    let digits = canonical.len() == usize::from(form) && canonical.bytes().all(is_digit);
    digits.then(|| canonical.parse().ok())?
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}

/// Derives the code as a number below `modulus`.
///
/// A MAC gives none with probability below 2^-120, so the second is never seen in practice and 256
/// in vain cannot happen; a bound keeps the function total.
fn code_value(key: &RingKey, source: &CodeSource<'_>, modulus: u64) -> Option<u64> {
    (0..=u8::MAX).find_map(|counter| {
        let mut message = key
            .otp
            .message()
            .field(b"watchword/otp/v1")
            .field(source.purpose.as_bytes())
            .field(source.challenge_id)
            .field(source.subject_key)
            .field(source.nonce);
        if counter > 0 {
            message = message.field(&[counter]);
        }
        unbiased(&message.finish(), modulus)
    })
}

/// Reads four big-endian words and reduces the first below the largest multiple of `modulus`, so
/// that each remainder is equally likely.
pub(crate) fn unbiased(mac: &[u8; 32], modulus: u64) -> Option<u64> {
    let limit = u64::MAX.checked_sub(u64::MAX.checked_rem(modulus)?)?;
    let (words, _) = mac.as_chunks::<8>();
    words
        .iter()
        .map(|word| u64::from_be_bytes(*word))
        .find(|word| *word < limit)?
        .checked_rem(modulus)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Id = [4; 16];
    const SUBJECT: SubjectKey = [5; 32];
    const NONCE: [u8; NONCE_SIZE] = [6; 16];

    fn ring() -> KeyRing {
        KeyRing::new(&[(1, &[1; 32]), (2, &[2; 32])], &[3; 32]).unwrap()
    }

    fn source(key_id: u8, purpose: &str) -> CodeSource<'_> {
        CodeSource {
            key_id,
            purpose,
            challenge_id: &ID,
            subject_key: &SUBJECT,
            nonce: &NONCE,
        }
    }

    /// Each field of the source changes the code.
    #[test]
    fn codes_depend_on_every_field() {
        let base = source(1, "login");
        let others = [
            source(2, "login"),
            source(1, "email"),
            CodeSource {
                challenge_id: &[7; 16],
                ..base
            },
            CodeSource {
                subject_key: &[7; 32],
                ..base
            },
            CodeSource {
                nonce: &[7; 16],
                ..base
            },
        ];
        let code = ring().derive_code(&base, 10).unwrap();
        assert_eq!(format!("{code:?}"), "[redacted]");
        for other in others {
            let other = ring().derive_code(&other, 10).unwrap();
            assert_ne!(code.reveal(), other.reveal());
        }
    }

    /// Lengths outside 6..=10 and unknown keys are errors, not codes.
    #[test]
    fn bad_arguments_are_refused() {
        for length in 0..=u8::MAX {
            let code = ring().derive_code(&source(1, "login"), length);
            match code {
                Ok(code) => assert_eq!(code.reveal().len(), usize::from(length)),
                Err(error) => assert_eq!(error, Error::CodeLength),
            }
            assert_eq!(modulus(length).is_some(), (6..=10).contains(&length));
        }
        let error = ring().derive_code(&source(3, "login"), 6).unwrap_err();
        assert_eq!(error, Error::KeyIdUnknown(3));
    }

    /// The first match wins, wherever it stands; a candidate of an unknown key never matches.
    #[test]
    fn the_first_match_is_found() {
        let ring = ring();
        let (right, wrong) = (source(2, "login"), source(1, "login"));
        let code = ring.derive_code(&right, 8).unwrap();
        let check = |candidates: &[CodeSource<'_>]| ring.check_code(code.reveal(), 8, candidates);
        assert_eq!(check(&[]), None);
        assert_eq!(check(&[wrong]), None);
        assert_eq!(check(&[right]), Some(0));
        assert_eq!(check(&[wrong, right, right]), Some(1));
        assert_eq!(check(&[wrong, wrong, wrong, right]), Some(3));

        // Key 1 signs: the unknown key 9 is computed with it, and still must not match.
        let code = ring.derive_code(&wrong, 8).unwrap();
        let check = |candidates: &[CodeSource<'_>]| ring.check_code(code.reveal(), 8, candidates);
        assert_eq!(check(&[source(9, "login")]), None);
        assert_eq!(check(&[source(9, "login"), wrong]), Some(1));
    }

    /// A code of another form, a form that is not derived, or text that is no code matches nothing.
    #[test]
    fn other_forms_match_nothing() {
        let ring = ring();
        let candidates = [source(1, "login")];
        let code = ring.derive_code(&candidates[0], 6).unwrap();
        assert_eq!(ring.check_code(code.reveal(), 6, &candidates), Some(0));
        for form in (0..=u8::MAX).filter(|form| *form != 6) {
            assert_eq!(ring.check_code(code.reveal(), form, &candidates), None);
        }
        for text in ["", "+12345", "12345", "0000000000000", "12345\u{661}"] {
            let form = u8::try_from(text.len()).unwrap();
            assert_eq!(ring.check_code(text, form, &candidates), None);
        }
        assert_eq!(
            ring.check_code("0123456789ABC", LONG_FORM, &candidates),
            None
        );
    }

    /// What was read shows its form and nothing else.
    #[test]
    fn debug_is_redacted() {
        let code = parse_code("482 913").unwrap();
        let debug = "ParsedCode { form: 6, canonical: [redacted] }";
        assert_eq!(format!("{code:?}"), debug);
        assert_ne!(new_nonce().unwrap(), new_nonce().unwrap());
    }
}
