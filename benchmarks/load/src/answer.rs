//! What an answer is worth.

use crate::job::Expect;

/// How a call ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// OK, and with what it should hold.
    Right,
    /// OK, and with something else.
    Wrong,
    /// Another status: the number of grpc-status, or a word for what is none.
    Refused(String),
}

/// Judges one message of gRPC, its prefix of five bytes included.
pub fn judge(body: &[u8], user_id: &[u8], expect: Expect) -> Answer {
    let right = match (unframed(body), expect) {
        (Some(message), Expect::User) => names_user(message, user_id).is_some(),
        (Some(message), Expect::Bytes(length)) => message.len() == length,
        (None, _) => false,
    };
    if right { Answer::Right } else { Answer::Wrong }
}

fn unframed(body: &[u8]) -> Option<&[u8]> {
    let (prefix, message) = body.split_first_chunk::<5>()?;
    let [0, length @ ..] = *prefix else {
        return None; // compressed, which nobody asked for
    };
    (u32::from_be_bytes(length) == u32::try_from(message.len()).ok()?).then_some(message)
}

/// In a `ValidateSessionResponse`: `session.user_id` and `user.id` are both this.
fn names_user(message: &[u8], user_id: &[u8]) -> Option<()> {
    let session = field(message, 1)?;
    let user = field(message, 2)?;
    (field(session, 2)? == user_id && field(user, 1)? == user_id).then_some(())
}

/// The first field with this number that has a length; None without one and for what is no message.
fn field(mut message: &[u8], number: u64) -> Option<&[u8]> {
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let size = match tag & 7 {
            0 => {
                varint(&mut message)?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (value, rest) = message.split_at_checked(size)?;
        if tag == number << 3 | 2 {
            return Some(value);
        }
        message = rest;
    }
    None
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    // session {id: "s", user_id: "u"}, user {id: "u", username: "n"}, as_of_time {seconds: 300}
    const MESSAGE: &[u8] =
        b"\x0a\x06\x0a\x01s\x12\x01u\x12\x06\x0a\x01u\x12\x01n\x1a\x03\x08\xac\x02";

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u8::try_from(message.len()).unwrap();
        [&[0, 0, 0, 0, length], message].concat()
    }

    #[test]
    fn only_the_user_of_the_token_is_right() {
        let body = framed(MESSAGE);
        assert_eq!(judge(&body, b"u", Expect::User), Answer::Right);
        assert_eq!(judge(&body, b"v", Expect::User), Answer::Wrong);
        for place in [11, 17] {
            let mut other = body.clone();
            other[place] = b'v';
            assert_eq!(
                judge(&other, b"u", Expect::User),
                Answer::Wrong,
                "byte {place}"
            );
        }
    }

    #[test]
    fn what_is_cut_or_altered_is_wrong_and_never_panics() {
        let body = framed(MESSAGE);
        for end in 0..body.len() {
            assert_eq!(
                judge(&body[..end], b"u", Expect::User),
                Answer::Wrong,
                "{end} bytes"
            );
            let message = framed(&MESSAGE[..end.min(MESSAGE.len())]);
            judge(&message, b"u", Expect::User);
        }
        for place in 0..body.len() {
            for byte in 0..=255 {
                let mut other = body.clone();
                other[place] = byte;
                judge(&other, b"u", Expect::User);
            }
        }
        assert_eq!(
            judge(&framed(&[0xff; 20]), b"u", Expect::User),
            Answer::Wrong
        );
    }

    #[test]
    fn an_echo_is_judged_by_its_length() {
        assert_eq!(judge(&framed(b"abc"), b"", Expect::Bytes(3)), Answer::Right);
        assert_eq!(
            judge(&framed(b"abcd"), b"", Expect::Bytes(3)),
            Answer::Wrong
        );
    }
}
