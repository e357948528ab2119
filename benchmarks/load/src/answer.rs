//! What an answer is worth.

use bytes::Bytes;

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
pub fn judge(body: &[u8], user_ids: &[Bytes], expect: Expect) -> Answer {
    let right = match (unframed(body), expect) {
        (Some(message), Expect::User) => {
            matches!(user_ids, [only] if names_user(message, only).is_some())
        }
        (Some(message), Expect::Users) => names_users(message, user_ids).is_some(),
        (Some(message), Expect::Roles) => field(message, 1).is_some_and(|role| !role.is_empty()),
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

/// In a `BatchValidateSessionsResponse`: each result names its user, and there is none more.
fn names_users(mut message: &[u8], user_ids: &[Bytes]) -> Option<()> {
    for user_id in user_ids {
        let (number, result) = next(&mut message)?;
        (number == 1).then_some(())?;
        names_user(result, user_id)?;
    }
    field(message, 1).is_none().then_some(())
}

/// The first field with this number that has a length; None without one and for what is no message.
fn field(mut message: &[u8], number: u64) -> Option<&[u8]> {
    while let Some((found, value)) = next(&mut message) {
        if found == number {
            return Some(value);
        }
    }
    None
}

/// The next field that has a length, and its number; None at the end and for what is no message.
fn next<'a>(message: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    loop {
        let tag = varint(message)?;
        let size = match tag & 7 {
            0 => {
                varint(message)?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (value, rest) = message.split_at_checked(size)?;
        *message = rest;
        if tag & 7 == 2 {
            return Some((tag >> 3, value));
        }
    }
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

    fn ids(ids: &[&'static str]) -> Vec<Bytes> {
        ids.iter().copied().map(Bytes::from).collect()
    }

    #[test]
    fn a_batch_names_every_user_in_its_place() {
        let of = |id: u8| {
            [
                b"\x0a\x0c\x0a\x03\x12\x01",
                &[id][..],
                b"\x12\x05\x0a\x01",
                &[id],
                b"\x12\x00",
            ]
            .concat()
        };
        let body = framed(&[of(b'u'), of(b'v'), b"\x12\x02\x08\x01".to_vec()].concat());
        assert_eq!(
            judge(&body, &ids(&["u", "v"]), Expect::Users),
            Answer::Right
        );
        for wrong in [&["u"][..], &["v", "u"], &["u", "v", "v"], &[]] {
            assert_eq!(
                judge(&body, &ids(wrong), Expect::Users),
                Answer::Wrong,
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn only_the_user_of_the_token_is_right() {
        let body = framed(MESSAGE);
        assert_eq!(judge(&body, &ids(&["u"]), Expect::User), Answer::Right);
        assert_eq!(judge(&body, &ids(&["v"]), Expect::User), Answer::Wrong);
        for place in [11, 17] {
            let mut other = body.clone();
            other[place] = b'v';
            assert_eq!(
                judge(&other, &ids(&["u"]), Expect::User),
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
                judge(&body[..end], &ids(&["u"]), Expect::User),
                Answer::Wrong,
                "{end} bytes"
            );
            let message = framed(&MESSAGE[..end.min(MESSAGE.len())]);
            judge(&message, &ids(&["u"]), Expect::User);
        }
        for place in 0..body.len() {
            for byte in 0..=255 {
                let mut other = body.clone();
                other[place] = byte;
                judge(&other, &ids(&["u"]), Expect::User);
            }
        }
        assert_eq!(
            judge(&framed(&[0xff; 20]), &ids(&["u"]), Expect::User),
            Answer::Wrong
        );
    }

    #[test]
    fn roles_are_judged_by_there_being_one() {
        assert_eq!(
            judge(&framed(b"\x0a\x01r"), &[], Expect::Roles),
            Answer::Right
        );
        assert_eq!(
            judge(&framed(b"\x1a\x00"), &[], Expect::Roles),
            Answer::Wrong
        );
    }

    #[test]
    fn an_echo_is_judged_by_its_length() {
        assert_eq!(judge(&framed(b"abc"), &[], Expect::Bytes(3)), Answer::Right);
        assert_eq!(
            judge(&framed(b"abcd"), &[], Expect::Bytes(3)),
            Answer::Wrong
        );
    }
}
