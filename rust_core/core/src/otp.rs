//! One-time codes: derived from a challenge, never stored.
//!
//! A code is an HMAC over the fields of its challenge, read as a decimal number. It follows HOTP
//! (RFC 4226) in idea but keys on the challenge instead of a counter and takes its digits without
//! bias, by rejection instead of truncation. A long code is the first 65 bits of the same HMAC.

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

/// Crockford's base32: no I, L, O and U.
const SYMBOLS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

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
    /// Derives the code of a challenge: `form` digits with leading zeros, `form` being 6..=10, or
    /// with [`LONG_FORM`] 13 characters of upper-case Crockford base32.
    ///
    /// # Errors
    /// `CodeLength`, `KeyIdUnknown`.
    pub fn derive_code(&self, source: &CodeSource<'_>, form: u8) -> Result<Secret, Error> {
        let reduction = Reduction::of(form).ok_or(Error::CodeLength)?;
        let key = self
            .find(source.key_id)
            .ok_or(Error::KeyIdUnknown(source.key_id))?;
        let value = code_value(key, source, reduction).ok_or(Error::Derivation)?;
        let width = usize::from(form);
        let mut code = Zeroizing::new(String::with_capacity(width));
        match reduction {
            Reduction::Digits(_) => {
                write!(code, "{value:0width$}").map_err(|_| Error::Derivation)?;
            }
            Reduction::LeadingBits => code.extend(symbols(value)),
        }
        Ok(Secret::new(code))
    }

    /// Gives the index of the first candidate whose code is `canonical`.
    ///
    /// Every candidate is derived and compared in constant time, whether or not an earlier one
    /// matched; one whose key the ring does not hold costs the same and never matches. `canonical`
    /// and `form` are those of a [`ParsedCode`]; anything else matches nothing.
    #[must_use]
    pub fn check_code(
        &self,
        canonical: &str,
        form: u8,
        candidates: &[CodeSource<'_>],
    ) -> Option<usize> {
        let reduction = Reduction::of(form)?;
        let presented = number(canonical, form)?;
        let mut found = Choice::from(0);
        let mut first = 0_u64;
        for (index, source) in (0_u64..).zip(candidates) {
            let known = self.find(source.key_id);
            let value = code_value(known.unwrap_or(self.signing()), source, reduction);
            let equal = value.unwrap_or(u128::MAX).ct_eq(&presented);
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

/// How a MAC becomes the number that a code is.
#[derive(Clone, Copy)]
enum Reduction {
    /// To a number below this power of ten.
    Digits(u64),
    /// To its first 65 bits: 32^13 numbers, each as likely as the others.
    LeadingBits,
}

impl Reduction {
    fn of(form: u8) -> Option<Self> {
        match form {
            LONG_FORM => Some(Self::LeadingBits),
            _ => modulus(form).map(Self::Digits),
        }
    }

    fn apply(self, mac: &[u8; 32]) -> Option<u128> {
        match self {
            Self::Digits(modulus) => unbiased(mac, modulus).map(u128::from),
            Self::LeadingBits => {
                let head = mac.first_chunk::<16>()?;
                Some(u128::from_be_bytes(*head) >> 63)
            }
        }
    }
}

/// Codes of one form and numbers below a bound are the same thing; numbers compare in constant
/// time without a buffer.
fn number(canonical: &str, form: u8) -> Option<u128> {
    if canonical.len() != usize::from(form) {
        return None;
    }
    if form == LONG_FORM {
        return canonical.bytes().try_fold(0_u128, |value, symbol| {
            let digit = SYMBOLS.iter().position(|known| *known == symbol)?;
            Some((value << 5) | u128::try_from(digit).ok()?)
        });
    }
    let digits = canonical.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| canonical.parse().ok())?
}

/// Writes 65 bits as 13 symbols.
fn symbols(value: u128) -> impl Iterator<Item = char> {
    (0..=60_u32)
        .rev()
        .step_by(5)
        .filter_map(move |shift| usize::try_from((value >> shift) & 31).ok())
        .filter_map(|digit| SYMBOLS.get(digit).copied().map(char::from))
}

/// Derives the code as a number.
///
/// A MAC gives no digits with probability below 2^-120, so the second is never seen in practice
/// and 256 in vain cannot happen; a bound keeps the function total.
fn code_value(key: &RingKey, source: &CodeSource<'_>, reduction: Reduction) -> Option<u128> {
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
        reduction.apply(&message.finish())
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

    /// Forms that are neither 6..=10 nor 13 and unknown keys are errors, not codes.
    #[test]
    fn bad_arguments_are_refused() {
        for length in 0..=u8::MAX {
            let code = ring().derive_code(&source(1, "login"), length);
            match code {
                Ok(code) => assert_eq!(code.reveal().len(), usize::from(length)),
                Err(error) => assert_eq!(error, Error::CodeLength),
            }
            assert_eq!(modulus(length).is_some(), (6..=10).contains(&length));
            let derived = matches!(length, 6..=10 | LONG_FORM);
            assert_eq!(Reduction::of(length).is_some(), derived);
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
        for right in [6, LONG_FORM] {
            let code = ring.derive_code(&candidates[0], right).unwrap();
            assert_eq!(ring.check_code(code.reveal(), right, &candidates), Some(0));
            for form in (0..=u8::MAX).filter(|form| *form != right) {
                assert_eq!(ring.check_code(code.reveal(), form, &candidates), None);
            }
        }
        for text in ["", "+12345", "12345", "0000000000000", "12345\u{661}"] {
            let form = u8::try_from(text.len()).unwrap();
            assert_eq!(ring.check_code(text, form, &candidates), None);
        }
        // The second is no canonical form: it holds a U.
        for text in ["0123456789ABC", "012345678ABCU"] {
            assert_eq!(ring.check_code(text, LONG_FORM, &candidates), None);
        }
    }

    /// Each of the 65 bits is in the code: one that differs gives another, and no code is lost.
    #[test]
    fn long_codes_are_sixty_five_bits() {
        let text = |value| symbols(value).collect::<String>();
        assert_eq!(text(0), "0000000000000");
        assert_eq!(text((1 << 65) - 1), "ZZZZZZZZZZZZZ");
        for bit in 0..65 {
            let value = 1_u128 << bit;
            assert_eq!(number(&text(value), LONG_FORM), Some(value));
            let mut mac = [0; 32];
            mac[..16].copy_from_slice(&(value << 63).to_be_bytes());
            assert_eq!(Reduction::LeadingBits.apply(&mac), Some(value));
        }
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
