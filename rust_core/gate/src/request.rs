//! The requests of session checks, read without a message type.
//!
//! What is not the plain case (a field more or twice, another order, a length in a longer form than
//! it needs) is not judged here: it is passed on, and grpc.aio answers it.

/// The prefix of a message: a flag for compression and four bytes of length (gRPC over HTTP/2,
/// "Length-Prefixed-Message").
pub(crate) const PREFIX_BYTES: usize = 5;
/// How many tokens one `BatchValidateSessions` may hold.
pub(crate) const BATCH_MAX: usize = 256;
/// The longest token that is looked at; grpc.aio says what is wrong with a longer one.
const TOKEN_BYTES_MAX: usize = 256;

/// Tags of length-delimited fields (protobuf encoding): the number shifted by 3, and type 2.
const SESSION_TOKEN: u8 = 1 << 3 | 2;
const MIN_CHANGE_TOKEN: u8 = 2 << 3 | 2;
const MAX_AUTH_AGE: u8 = 3 << 3 | 2;
const SESSION_TOKENS: u8 = 1 << 3 | 2;
const ROLES_SESSION_TOKEN: u8 = 2 << 3 | 2;

/// Fields of google.protobuf.Duration, varints.
const SECONDS: u8 = 1 << 3;
const NANOS: u8 = 2 << 3;
/// About 10,000 years, as google.protobuf.Duration has it.
const SECONDS_MAX: u64 = 315_576_000_000;
const NANOS_OF_SECOND: u64 = 1_000_000_000;

/// What a `ValidateSessionRequest` asks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ValidateSession<'a> {
    pub(crate) token: &'a str,
    pub(crate) changes: Option<&'a str>,
    /// Microseconds.
    pub(crate) max_auth_age: Option<i64>,
}

/// Finds the message of a body that is one uncompressed message.
pub(crate) fn message_of(body: &[u8]) -> Option<&[u8]> {
    let (prefix, message) = body.split_first_chunk::<PREFIX_BYTES>()?;
    let [0, length @ ..] = *prefix else {
        return None;
    };
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    (length == message.len()).then_some(message)
}

/// Reads a `ValidateSessionRequest`.
pub(crate) fn validate_session(message: &[u8]) -> Option<ValidateSession<'_>> {
    let (token, mut rest) = text(message, SESSION_TOKEN)?;
    let mut changes = None;
    if rest.first() == Some(&MIN_CHANGE_TOKEN) {
        let (change_token, after) = text(rest, MIN_CHANGE_TOKEN)?;
        (changes, rest) = (Some(change_token), after);
    }
    let mut max_auth_age = None;
    if rest.first() == Some(&MAX_AUTH_AGE) {
        let (value, after) = field(rest, MAX_AUTH_AGE)?;
        (max_auth_age, rest) = (Some(duration(value)?), after);
    }
    rest.is_empty().then_some(ValidateSession {
        token,
        changes,
        max_auth_age,
    })
}

/// Reads a google.protobuf.Duration that is not below zero, in microseconds.
fn duration(message: &[u8]) -> Option<i64> {
    let (seconds, rest) = number(message, SECONDS)?;
    let (nanos, rest) = number(rest, NANOS)?;
    if !rest.is_empty() || seconds > SECONDS_MAX || nanos >= NANOS_OF_SECOND {
        return None;
    }
    let micros = seconds
        .checked_mul(1_000_000)?
        .checked_add(nanos.checked_div(1_000)?)?;
    i64::try_from(micros).ok()
}

/// Reads a varint field that has this tag, 0 if it is not there; gives what follows it, too.
fn number(message: &[u8], tag: u8) -> Option<(u64, &[u8])> {
    let Some(mut rest) = message.strip_prefix(&[tag]) else {
        return Some((0, message));
    };
    let mut value = 0_u64;
    // What takes more is below zero or too much.
    for shift in [0, 7, 14, 21, 28, 35] {
        let (byte, after) = rest.split_first()?;
        rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some((value, rest));
        }
    }
    None
}

/// Reads a `GetRolesRequest` that asks by session token.
pub(crate) fn get_roles(message: &[u8]) -> Option<&str> {
    let (token, rest) = text(message, ROLES_SESSION_TOKEN)?;
    rest.is_empty().then_some(token)
}

/// Reads a `BatchValidateSessionsRequest`: 1 to [`BATCH_MAX`] tokens.
pub(crate) fn batch_validate_sessions(message: &[u8]) -> Option<Vec<&str>> {
    let mut tokens = Vec::new();
    let mut rest = message;
    while !rest.is_empty() && tokens.len() < BATCH_MAX {
        let (token, after) = text(rest, SESSION_TOKENS)?;
        tokens.push(token);
        rest = after;
    }
    (rest.is_empty() && !tokens.is_empty()).then_some(tokens)
}

/// Reads a text field that has this tag; gives what follows it, too.
fn text(message: &[u8], tag: u8) -> Option<(&str, &[u8])> {
    let (value, rest) = field(message, tag)?;
    if !(1..=TOKEN_BYTES_MAX).contains(&value.len()) {
        return None;
    }
    Some((std::str::from_utf8(value).ok()?, rest))
}

/// Reads a length-delimited field that has this tag.
fn field(message: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = message.split_first()?;
    let (length, rest) = length(rest)?;
    (*first == tag).then_some(())?;
    rest.split_at_checked(length)
}

/// Reads a length of one or two bytes, in its shortest form.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match *bytes {
        [low @ ..=0x7f, ref rest @ ..] => Some((low.into(), rest)),
        [low, high @ 1..=0x7f, ref rest @ ..] => {
            Some((usize::from(high) << 7 | usize::from(low & 0x7f), rest))
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]
mod tests {
    use super::*;

    fn body(message: &[u8]) -> Vec<u8> {
        let mut body = vec![0];
        body.extend_from_slice(&(message.len() as u32).to_be_bytes());
        body.extend_from_slice(message);
        body
    }

    fn field(tag: u8, value: &[u8]) -> Vec<u8> {
        let mut field = vec![tag];
        if value.len() > 127 {
            field.push(value.len() as u8 | 0x80);
            field.push((value.len() >> 7) as u8);
        } else {
            field.push(value.len() as u8);
        }
        field.extend_from_slice(value);
        field
    }

    /// A body is one message, whole and not compressed.
    #[test]
    fn a_body_is_one_plain_message() {
        let plain = body(b"\x0a\x04ww_x");
        assert_eq!(message_of(&plain), Some(&b"\x0a\x04ww_x"[..]));
        for cut in 0..plain.len() {
            assert_eq!(message_of(&plain[..cut]), None, "{cut}");
        }
        let mut longer = plain.clone();
        longer.push(0);
        assert_eq!(message_of(&longer), None);
        let mut compressed = plain;
        compressed[0] = 1;
        assert_eq!(message_of(&compressed), None);
    }

    /// The plain requests are read, with tokens of one and of two bytes of length.
    #[test]
    fn plain_requests_are_read() {
        let long = "x".repeat(200);
        let asked = |changes, max_auth_age| {
            Some(ValidateSession {
                token: "ww_x",
                changes,
                max_auth_age,
            })
        };
        assert_eq!(validate_session(b"\x0a\x04ww_x"), asked(None, None));
        let both = [field(0x0a, b"ww_x"), field(0x12, long.as_bytes())].concat();
        assert_eq!(validate_session(&both), asked(Some(&*long), None));
        for (age, micros) in [
            (&b""[..], 0),
            (b"\x08\xd8\x04", 600_000_000),
            (b"\x10\xd0\x0f", 2),
            (b"\x08\x01\x10\xd0\x0f", 1_000_002),
            (b"\x08\x80\xbc\xae\xce\x97\x09", 315_576_000_000_000_000),
        ] {
            let aged = [field(0x0a, b"ww_x"), field(0x1a, age)].concat();
            assert_eq!(validate_session(&aged), asked(None, Some(micros)));
            let all = [both.clone(), field(0x1a, age)].concat();
            assert_eq!(validate_session(&all), asked(Some(&*long), Some(micros)));
        }
        assert_eq!(get_roles(b"\x12\x04ww_x"), Some("ww_x"));
        let tokens = [field(0x0a, b"ww_x"), field(0x0a, long.as_bytes())].concat();
        assert_eq!(batch_validate_sessions(&tokens), Some(vec!["ww_x", &*long]));
        let most = field(0x0a, b"t").repeat(BATCH_MAX);
        assert_eq!(
            batch_validate_sessions(&most).map(|read| read.len()),
            Some(BATCH_MAX)
        );
    }

    /// Whatever else there is, is not judged: empty, cut, twice, out of order, too long, too many,
    /// another field, another form of length, no text.
    #[test]
    fn whatever_else_is_not_judged() {
        let long = field(0x0a, &[b'x'; 257]);
        let twice = field(0x0a, b"ww_x").repeat(2);
        for message in [
            &b""[..],
            b"\x0a",
            b"\x0a\x00",
            b"\x0a\x04ww_",
            b"\x0a\x84\x00ww_x",
            b"\x0a\x84\x80\x00ww_x",
            b"\x0a\x02\xff\xfe",
            b"\x0a\x04ww_x\x12\x00",
            b"\x0a\x04ww_x\x1a\x01a",
            b"\x0a\x04ww_x\x1a\x02\x10\x01\x08\x01",
            b"\x0a\x04ww_x\x1a\x02\x08\x80",
            b"\x0a\x04ww_x\x1a\x06\x10\x80\x94\xeb\xdc\x03",
            b"\x0a\x04ww_x\x1a\x07\x08\x81\xbc\xae\xce\x97\x09",
            b"\x0a\x04ww_x\x1a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x0a\x04ww_x\x1a\x00\x12\x01a",
            b"\x0a\x04ww_x\x1a\x00\x1a\x00",
            b"\x12\x01a\x0a\x04ww_x",
            &long,
            &twice,
        ] {
            assert_eq!(validate_session(message), None, "{message:?}");
        }
        for message in [&b""[..], b"\x0a\x04ww_x", b"\x12\x04ww_x\x12\x04ww_x"] {
            assert_eq!(get_roles(message), None, "{message:?}");
        }
        let many = field(0x0a, b"t").repeat(BATCH_MAX + 1);
        for message in [
            &b""[..],
            b"\x0a\x00",
            b"\x0a\x04ww_x\x12\x01a",
            &long,
            &many,
        ] {
            assert_eq!(batch_validate_sessions(message), None, "{message:?}");
        }
    }
}
