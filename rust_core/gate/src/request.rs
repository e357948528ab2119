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
const SESSION_TOKENS: u8 = 1 << 3 | 2;
const ROLES_SESSION_TOKEN: u8 = 2 << 3 | 2;

/// Finds the message of a body that is one uncompressed message.
pub(crate) fn message_of(body: &[u8]) -> Option<&[u8]> {
    let (prefix, message) = body.split_first_chunk::<PREFIX_BYTES>()?;
    let [0, length @ ..] = *prefix else {
        return None;
    };
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    (length == message.len()).then_some(message)
}

/// Reads a `ValidateSessionRequest`: the token and, if there is one, the change token.
pub(crate) fn validate_session(message: &[u8]) -> Option<(&str, Option<&str>)> {
    let (token, rest) = text(message, SESSION_TOKEN)?;
    if rest.is_empty() {
        return Some((token, None));
    }
    let (change_token, rest) = text(rest, MIN_CHANGE_TOKEN)?;
    rest.is_empty().then_some((token, Some(change_token)))
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
    let (first, rest) = message.split_first()?;
    let (length, rest) = length(rest)?;
    if *first != tag || !(1..=TOKEN_BYTES_MAX).contains(&length) {
        return None;
    }
    let (value, rest) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(value).ok()?, rest))
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
        assert_eq!(validate_session(b"\x0a\x04ww_x"), Some(("ww_x", None)));
        let both = [field(0x0a, b"ww_x"), field(0x12, long.as_bytes())].concat();
        assert_eq!(validate_session(&both), Some(("ww_x", Some(&*long))));
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
