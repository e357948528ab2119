//! `ValidateSession` as bytes: a request is read, and its answer written, without a message type.
//!
//! What is not the plain case (a field more, another encoding, a body in many pieces) is not judged
//! here: it is passed on, and grpc.aio answers it.

/// The prefix of a message: a flag for compression and four bytes of length (gRPC over HTTP/2,
/// "Length-Prefixed-Message").
const PREFIX_BYTES: usize = 5;
/// Tags of length-delimited fields (protobuf encoding): the number shifted by 3, and type 2.
const SESSION_TOKEN: u8 = 1 << 3 | 2;
const SESSION: u8 = 1 << 3 | 2;
const USER: u8 = 2 << 3 | 2;
const AS_OF_TIME: u8 = 3 << 3 | 2;
/// Fields of google.protobuf.Timestamp, varints.
const SECONDS: u8 = 1 << 3;
const NANOS: u8 = 2 << 3;
const VARINT_BYTES_MAX: usize = 10;
/// Two varints and their tags.
const TIMESTAMP_BYTES_MAX: usize = 2 * (VARINT_BYTES_MAX + 1);

/// Finds the token of an uncompressed request that holds the token and nothing else.
pub(crate) fn token_of(body: &[u8]) -> Option<&str> {
    let (prefix, message) = body.split_first_chunk::<PREFIX_BYTES>()?;
    let [0, length @ ..] = *prefix else {
        return None;
    };
    if usize::try_from(u32::from_be_bytes(length)).ok()? != message.len() {
        return None;
    }
    // A token has fewer than 128 bytes, so its length is one.
    let [SESSION_TOKEN, length, token @ ..] = message else {
        return None;
    };
    if *length > 127 || usize::from(*length) != token.len() {
        return None;
    }
    std::str::from_utf8(token).ok()
}

/// Writes the answer with its prefix; `as_of` in microseconds since 1970.
pub(crate) fn write_answer(session: &[u8], user: &[u8], as_of: i64) -> Vec<u8> {
    let mut time = Vec::with_capacity(TIMESTAMP_BYTES_MAX);
    let (seconds, micros) = (as_of.div_euclid(1_000_000), as_of.rem_euclid(1_000_000));
    write_varint_field(&mut time, SECONDS, seconds.cast_unsigned());
    write_varint_field(
        &mut time,
        NANOS,
        micros.saturating_mul(1_000).cast_unsigned(),
    );
    let fields = [
        (SESSION, session),
        (USER, user),
        (AS_OF_TIME, time.as_slice()),
    ];
    let size = fields.iter().fold(PREFIX_BYTES, |size, (_, bytes)| {
        size.saturating_add(1)
            .saturating_add(VARINT_BYTES_MAX)
            .saturating_add(bytes.len())
    });
    let mut answer = Vec::with_capacity(size);
    answer.extend_from_slice(&[0; PREFIX_BYTES]);
    for (tag, bytes) in fields {
        answer.push(tag);
        write_varint(&mut answer, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        answer.extend_from_slice(bytes);
    }
    let length = u32::try_from(answer.len().saturating_sub(PREFIX_BYTES)).unwrap_or(u32::MAX);
    if let Some(place) = answer.get_mut(1..PREFIX_BYTES) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    answer
}

/// Writes a field unless it has its default, which protobuf leaves out.
fn write_varint_field(out: &mut Vec<u8>, tag: u8, value: u64) {
    if value != 0 {
        out.push(tag);
        write_varint(out, value);
    }
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]
mod tests {
    use super::*;

    fn request(message: &[u8]) -> Vec<u8> {
        let mut body = vec![0];
        body.extend_from_slice(&(message.len() as u32).to_be_bytes());
        body.extend_from_slice(message);
        body
    }

    #[test]
    fn the_plain_request_is_read() {
        assert_eq!(token_of(&request(b"\x0a\x04ww_x")), Some("ww_x"));
        assert_eq!(token_of(&request(b"\x0a\x00")), Some(""));
    }

    #[test]
    fn whatever_else_is_not_judged() {
        let plain = request(b"\x0a\x04ww_x");
        for cut in 0..plain.len() {
            assert_eq!(token_of(&plain[..cut]), None, "{cut}");
        }
        let mut longer = plain.clone();
        longer.push(0);
        assert_eq!(token_of(&longer), None);
        let mut compressed = plain.clone();
        compressed[0] = 1;
        assert_eq!(token_of(&compressed), None);
        for message in [
            &b""[..],
            b"\x0a\x04ww_",
            b"\x0a\x04ww_xy",
            b"\x12\x04ww_x",
            b"\x0a\x04ww_x\x12\x01a",
            b"\x0a\x84\x00ww_x",
            b"\x0a\x02\xff\xfe",
        ] {
            assert_eq!(token_of(&request(message)), None, "{message:?}");
        }
    }

    #[test]
    fn the_answer_is_the_message() {
        let answer = write_answer(b"se", b"us", 1_700_000_000_000_001);
        let time = b"\x08\x80\xe2\xcf\xaa\x06\x10\xe8\x07";
        let mut message = b"\x0a\x02se\x12\x02us\x1a".to_vec();
        message.push(time.len() as u8);
        message.extend_from_slice(time);
        assert_eq!(answer, request(&message));
        let epoch = write_answer(b"", &[7; 300], 0);
        let mut message = b"\x0a\x00\x12\xac\x02".to_vec();
        message.extend_from_slice(&[7; 300]);
        message.extend_from_slice(b"\x1a\x00");
        assert_eq!(epoch, request(&message));
    }
}
