//! The answers of session checks, written without a message type.

use watchword_core::cache::Hit;

use crate::request::PREFIX_BYTES;

/// Tags of length-delimited fields (protobuf encoding): the number shifted by 3, and type 2.
const SESSION: u8 = 1 << 3 | 2;
const USER: u8 = 2 << 3 | 2;
const AS_OF_TIME: u8 = 3 << 3 | 2;
const RESULTS: u8 = 1 << 3 | 2;
const BATCH_AS_OF_TIME: u8 = 2 << 3 | 2;
/// A varint field.
const ERROR_REASON: u8 = 3 << 3;
/// `ERROR_REASON_SESSION_INVALID`.
const SESSION_INVALID: u8 = 4;
/// Fields of google.protobuf.Timestamp, varints.
const SECONDS: u8 = 1 << 3;
const NANOS: u8 = 2 << 3;
/// The most that a 64-bit varint takes.
const VARINT_BYTES_MAX: usize = 10;
/// A timestamp's field: tag, length, two varints with their tags.
const TIME_BYTES_MAX: usize = 2 + 2 * (VARINT_BYTES_MAX + 1);
/// What a field takes besides its value: tag, and the length of what a cache holds.
const FIELD_BYTES_MAX: usize = 1 + VARINT_BYTES_MAX;
/// What room is made for in each result of a batch; a longer one makes the answer grow.
const RESULT_BYTES: usize = 512;

/// The encoded messages of a live session, as they were filled or read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) session: &'a [u8],
    pub(crate) user: &'a [u8],
    pub(crate) roles: &'a [u8],
}

impl<'a> From<&Hit<'a>> for Parts<'a> {
    fn from(hit: &Hit<'a>) -> Self {
        Self {
            session: hit.session,
            user: hit.user,
            roles: hit.roles,
        }
    }
}

/// Writes a `ValidateSessionResponse` with its prefix; `as_of` in microseconds since 1970.
pub(crate) fn validated(parts: Parts<'_>, as_of: i64) -> Vec<u8> {
    let size = parts.session.len().saturating_add(parts.user.len());
    let mut answer = begun(size.saturating_add(2 * FIELD_BYTES_MAX));
    write_field(&mut answer, SESSION, parts.session);
    write_field(&mut answer, USER, parts.user);
    write_time(&mut answer, AS_OF_TIME, as_of);
    ended(answer)
}

/// Writes a `GetRolesResponse` with its prefix: what was filled, and the time.
pub(crate) fn roles(parts: Parts<'_>, as_of: i64) -> Vec<u8> {
    let mut answer = begun(parts.roles.len());
    answer.extend_from_slice(parts.roles);
    write_time(&mut answer, AS_OF_TIME, as_of);
    ended(answer)
}

/// Puts the prefix before an encoded message.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let mut answer = begun(message.len());
    answer.extend_from_slice(message);
    ended(answer)
}

/// A `BatchValidateSessionsResponse` while its results come in, in the order of the tokens.
pub(crate) struct Batch(Vec<u8>);

impl Batch {
    pub(crate) fn new(results: usize) -> Self {
        Self(begun(results.saturating_mul(RESULT_BYTES)))
    }

    /// The next token's session is live.
    pub(crate) fn live(&mut self, parts: Parts<'_>) {
        let size = field_size(parts.session).saturating_add(field_size(parts.user));
        self.0.push(RESULTS);
        write_length(&mut self.0, size);
        write_field(&mut self.0, SESSION, parts.session);
        write_field(&mut self.0, USER, parts.user);
    }

    /// The next token is that of no live session.
    pub(crate) fn refused(&mut self) {
        self.0
            .extend_from_slice(&[RESULTS, 2, ERROR_REASON, SESSION_INVALID]);
    }

    pub(crate) fn ended(mut self, as_of: i64) -> Vec<u8> {
        write_time(&mut self.0, BATCH_AS_OF_TIME, as_of);
        ended(self.0)
    }
}

/// Makes room for a message and its time, and for the prefix, which is written last.
fn begun(size: usize) -> Vec<u8> {
    let mut answer = Vec::with_capacity(size.saturating_add(PREFIX_BYTES + TIME_BYTES_MAX));
    answer.extend_from_slice(&[0; PREFIX_BYTES]);
    answer
}

fn ended(mut answer: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(answer.len().saturating_sub(PREFIX_BYTES)).unwrap_or(u32::MAX);
    if let Some(place) = answer.get_mut(1..PREFIX_BYTES) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    answer
}

fn field_size(value: &[u8]) -> usize {
    let length = u64::try_from(value.len()).unwrap_or(u64::MAX);
    varint_size(length)
        .saturating_add(value.len())
        .saturating_add(1)
}

fn varint_size(value: u64) -> usize {
    let bits = u64::BITS.saturating_sub(value.leading_zeros());
    usize::try_from(bits.div_ceil(7).max(1)).unwrap_or(VARINT_BYTES_MAX)
}

pub(crate) fn write_field(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    out.push(tag);
    write_length(out, value.len());
    out.extend_from_slice(value);
}

/// Writes a google.protobuf.Timestamp; protobuf leaves out what is 0.
pub(crate) fn write_time(out: &mut Vec<u8>, tag: u8, micros: i64) {
    let (seconds, rest) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let nanos = rest.saturating_mul(1_000);
    let fields =
        [(SECONDS, seconds), (NANOS, nanos)].map(|(tag, value)| (tag, value.cast_unsigned()));
    let written = || fields.iter().filter(|(_, value)| *value != 0);
    out.push(tag);
    write_length(
        out,
        written().fold(0, |size, (_, value)| {
            varint_size(*value).saturating_add(size).saturating_add(1)
        }),
    );
    for (tag, value) in written() {
        out.push(*tag);
        write_varint(out, *value);
    }
}

fn write_length(out: &mut Vec<u8>, length: usize) {
    write_varint(out, u64::try_from(length).unwrap_or(u64::MAX));
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::message_of;

    const TIME: i64 = 1_700_000_000_000_001;
    const WRITTEN: &[u8] = b"\x08\x80\xe2\xcf\xaa\x06\x10\xe8\x07";

    fn parts<'a>(session: &'a [u8], user: &'a [u8], roles: &'a [u8]) -> Parts<'a> {
        Parts {
            session,
            user,
            roles,
        }
    }

    /// The answer is the message, with lengths of one and of two bytes and a time of nothing.
    #[test]
    fn a_validated_session() {
        let answer = validated(parts(b"se", b"us", b"ro"), TIME);
        let message = [b"\x0a\x02se\x12\x02us\x1a\x09", WRITTEN].concat();
        assert_eq!(message_of(&answer), Some(&*message));
        let epoch = validated(parts(b"", &[7; 300], b""), 0);
        let message = [&b"\x0a\x00\x12\xac\x02"[..], &[7; 300], b"\x1a\x00"].concat();
        assert_eq!(message_of(&epoch), Some(&*message));
    }

    /// Before 1970 the seconds are negative and the rest is not.
    #[test]
    fn an_early_time() {
        let answer = roles(parts(b"", b"", b"ro"), -1);
        let message =
            b"ro\x1a\x11\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x10\x98\x8c\xeb\xdc\x03";
        assert_eq!(message_of(&answer), Some(&message[..]));
    }

    /// Results stand in their order, each with its size.
    #[test]
    fn a_batch() {
        let mut batch = Batch::new(3);
        batch.live(parts(b"se", b"us", b""));
        batch.refused();
        batch.live(parts(&[1; 127], &[2; 128], b""));
        let message = [
            &b"\x0a\x08\x0a\x02se\x12\x02us\x0a\x02\x18\x04\x0a\x84\x02\x0a\x7f"[..],
            &[1; 127],
            b"\x12\x80\x01",
            &[2; 128],
            b"\x12\x09",
            WRITTEN,
        ]
        .concat();
        assert_eq!(message_of(&batch.ended(TIME)), Some(&*message));
    }
}
