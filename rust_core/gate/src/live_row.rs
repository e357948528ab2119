//! Rows of live sessions as the database's `record_send` writes them, and the messages of their
//! answers. `LiveSessionStore.FIND_MANY` in storage/sessions.py has the columns in this order.

use watchword_core::cache::{ENDLESS, Fill, SessionFill, UserFill};
use watchword_core::{Id, Verifier};

use crate::message::{write_field, write_time};

/// 2000-01-01, from which the database counts, in microseconds since 1970.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// Tags of length-delimited fields (protobuf encoding) of `watchword.v1`: the number shifted by 3,
/// and type 2.
mod session {
    pub(super) const ID: u8 = 1 << 3 | 2;
    pub(super) const USER_ID: u8 = 2 << 3 | 2;
    pub(super) const CREATE_TIME: u8 = 3 << 3 | 2;
    pub(super) const AUTH_TIME: u8 = 4 << 3 | 2;
    pub(super) const EXPIRE_TIME: u8 = 5 << 3 | 2;
}
mod user {
    pub(super) const ID: u8 = 1 << 3 | 2;
    pub(super) const USERNAME: u8 = 2 << 3 | 2;
    pub(super) const FULL_NAME: u8 = 3 << 3 | 2;
    pub(super) const EMAIL: u8 = 4 << 3 | 2;
    pub(super) const ROLES: u8 = 5 << 3 | 2;
    pub(super) const PERMISSIONS: u8 = 6 << 3 | 2;
}
mod get_roles {
    pub(super) const ROLES: u8 = 1 << 3 | 2;
    pub(super) const PERMISSIONS: u8 = 2 << 3 | 2;
}

/// A row that the statement cannot have given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// One row: the database's time, and a live session unless none was found.
pub(crate) struct Row {
    pub(crate) as_of: i64,
    pub(crate) live: Option<Live>,
}

/// A session with its user, and their messages.
pub(crate) struct Live {
    session_id: Id,
    verifier: Verifier,
    auth_time: i64,
    expire_time: i64,
    last_seen: i64,
    previous: Option<(Verifier, i64)>,
    session_epoch: i64,
    user_id: Id,
    version: i64,
    user_epoch: i64,
    session: Vec<u8>,
    user: Vec<u8>,
    roles: Vec<u8>,
    roles_end: i64,
}

impl Row {
    pub(crate) fn read(record: &[u8]) -> Result<Self, Unreadable> {
        let mut columns = Columns::begin(record)?;
        let as_of = columns.time()?;
        let live = match columns.next()? {
            Some(session_id) => Some(Live::read(sized(session_id)?, &mut columns)?),
            None => None,
        };
        Ok(Self { as_of, live })
    }
}

impl Live {
    fn read(session_id: Id, columns: &mut Columns<'_>) -> Result<Self, Unreadable> {
        let verifier = sized(columns.value()?)?;
        let create_time = columns.time()?;
        let auth_time = columns.time()?;
        let expire_time = columns.time()?;
        let last_seen = columns.time()?;
        let previous = columns.next()?.map(sized).transpose()?;
        // NULL until the present secret is used.
        let previous_end = columns.time_or(ENDLESS)?;
        let session_epoch = columns.number()?;
        let version = columns.number()?;
        let user_id: Id = sized(columns.value()?)?;
        let user_epoch = columns.number()?;
        let [username, full_name, email] = [columns.value()?, columns.value()?, columns.value()?];
        let [roles, permissions] = [columns.texts()?, columns.texts()?];
        // NULL when no role ends.
        let roles_end = columns.time_or(i64::MAX)?;

        let mut session = Vec::with_capacity(128);
        write_field(&mut session, session::ID, &uuid_text(&session_id));
        write_field(&mut session, session::USER_ID, &uuid_text(&user_id));
        write_time(&mut session, session::CREATE_TIME, create_time);
        write_time(&mut session, session::AUTH_TIME, auth_time);
        write_time(&mut session, session::EXPIRE_TIME, expire_time);

        let mut user = Vec::with_capacity(256);
        write_field(&mut user, user::ID, &uuid_text(&user_id));
        write_text(&mut user, user::USERNAME, username);
        write_text(&mut user, user::FULL_NAME, full_name);
        write_text(&mut user, user::EMAIL, email);
        write_texts(&mut user, user::ROLES, &roles);
        write_texts(&mut user, user::PERMISSIONS, &permissions);

        let mut granted = Vec::new();
        write_texts(&mut granted, get_roles::ROLES, &roles);
        write_texts(&mut granted, get_roles::PERMISSIONS, &permissions);
        Ok(Self {
            session_id,
            verifier,
            auth_time,
            expire_time,
            last_seen,
            previous: previous.map(|previous| (previous, previous_end)),
            session_epoch,
            user_id,
            version,
            user_epoch,
            session,
            user,
            roles: granted,
            roles_end,
        })
    }

    /// What a cache takes of it.
    pub(crate) fn fill(&self) -> Fill<'_> {
        Fill {
            user: UserFill {
                id: self.user_id,
                version: self.version,
                epoch: self.user_epoch,
                end: self.roles_end,
                message: &self.user,
                roles: &self.roles,
            },
            session: SessionFill {
                id: self.session_id,
                verifier: self.verifier,
                previous: self.previous,
                auth_time: self.auth_time,
                expire: self.expire_time,
                epoch: self.session_epoch,
                last_seen: self.last_seen,
                message: &self.session,
            },
        }
    }
}

/// Writes an id as RFC 9562 does (section 4).
pub(crate) fn uuid_text(id: &Id) -> [u8; 36] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; 36];
    let places = (0..36).filter(|place| !matches!(place, 8 | 13 | 18 | 23));
    let halves = id.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    for (place, half) in places.zip(halves) {
        if let (Some(place), Some(digit)) = (text.get_mut(place), HEX.get(usize::from(half))) {
            *place = *digit;
        }
    }
    text
}

/// Writes a field, which protobuf leaves out when it is empty.
fn write_text(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    if !value.is_empty() {
        write_field(out, tag, value);
    }
}

fn write_texts(out: &mut Vec<u8>, tag: u8, values: &[&[u8]]) {
    for value in values {
        write_field(out, tag, value);
    }
}

/// The columns of a record that are still to be read: for each an oid, a length (-1 for NULL) and
/// the value; numbers in network order.
struct Columns<'a>(&'a [u8]);

impl<'a> Columns<'a> {
    fn begin(record: &'a [u8]) -> Result<Self, Unreadable> {
        let (_count, rest) = record.split_first_chunk::<4>().ok_or(Unreadable)?;
        Ok(Self(rest))
    }

    fn next(&mut self) -> Result<Option<&'a [u8]>, Unreadable> {
        let (_oid, rest) = self.0.split_first_chunk::<4>().ok_or(Unreadable)?;
        self.0 = rest;
        next_value(&mut self.0)
    }

    fn value(&mut self) -> Result<&'a [u8], Unreadable> {
        self.next()?.ok_or(Unreadable)
    }

    fn number(&mut self) -> Result<i64, Unreadable> {
        self.value().and_then(sized).map(i64::from_be_bytes)
    }

    /// A `timestamptz`, as microseconds since 1970.
    fn time(&mut self) -> Result<i64, Unreadable> {
        self.value().and_then(micros)
    }

    /// The same, of NULL another.
    fn time_or(&mut self, null: i64) -> Result<i64, Unreadable> {
        self.next()?.map_or(Ok(null), micros)
    }

    /// A `text[]` of one dimension or empty: dimensions, whether there are NULLs, oid, and for each
    /// dimension its size and first index come before the values.
    fn texts(&mut self) -> Result<Vec<&'a [u8]>, Unreadable> {
        let array = self.value()?;
        let (head, rest) = array.split_first_chunk::<12>().ok_or(Unreadable)?;
        if head.starts_with(&0_u32.to_be_bytes()) && rest.is_empty() {
            return Ok(Vec::new());
        }
        let (size, mut rest) = rest.split_first_chunk::<8>().ok_or(Unreadable)?;
        if !head.starts_with(&1_u32.to_be_bytes()) {
            return Err(Unreadable);
        }
        let (count, _first_index) = size.split_first_chunk::<4>().ok_or(Unreadable)?;
        (0..u32::from_be_bytes(*count))
            .map(|_| next_value(&mut rest)?.ok_or(Unreadable))
            .collect()
    }
}

/// Takes a length and as many bytes; None for NULL.
fn next_value<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Unreadable> {
    let (length, after) = rest.split_first_chunk::<4>().ok_or(Unreadable)?;
    let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
        *rest = after;
        return Ok(None);
    };
    let (value, after) = after.split_at_checked(length).ok_or(Unreadable)?;
    *rest = after;
    Ok(Some(value))
}

fn micros(time: &[u8]) -> Result<i64, Unreadable> {
    let since_2000 = i64::from_be_bytes(sized(time)?);
    since_2000.checked_add(POSTGRES_EPOCH).ok_or(Unreadable)
}

fn sized<const SIZE: usize>(value: &[u8]) -> Result<[u8; SIZE], Unreadable> {
    value.try_into().map_err(|_| Unreadable)
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn column(value: Option<&[u8]>) -> Vec<u8> {
        let length = value.map_or(u32::MAX, |value| value.len() as u32);
        let parts = [&[0; 4], &length.to_be_bytes()[..], value.unwrap_or(b"")];
        parts.concat()
    }

    fn texts(values: &[&str]) -> Vec<u8> {
        let mut array = [0_u32, 0, 25].map(u32::to_be_bytes).concat();
        if !values.is_empty() {
            array[3] = 1;
            array.extend((values.len() as u32).to_be_bytes());
            array.extend(1_u32.to_be_bytes());
        }
        for value in values {
            array.extend((value.len() as u32).to_be_bytes());
            array.extend(value.as_bytes());
        }
        array
    }

    fn record(roles: &[&str], permissions: &[&str]) -> Vec<u8> {
        let time = |micros: i64| micros.to_be_bytes().to_vec();
        let columns = [
            time(1),
            vec![0x1a; 16],
            vec![3; 32],
            time(2_000_000),
            time(3),
            time(4),
            time(5),
            vec![4; 32],
            time(9),
            time(6),
            time(7),
            vec![0xff; 16],
            time(8),
            b"ada".to_vec(),
            b"Ada".to_vec(),
            b"a@b.example".to_vec(),
            texts(roles),
            texts(permissions),
            time(10),
        ];
        let columns = columns.iter().map(|value| column(Some(value)));
        let null = column(None);
        [vec![0, 0, 0, 20]]
            .into_iter()
            .chain(columns)
            .chain([null])
            .collect::<Vec<_>>()
            .concat()
    }

    #[test]
    fn an_id_is_text() {
        let id = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef_u128.to_be_bytes();
        assert_eq!(&uuid_text(&id), b"01234567-89ab-cdef-0123-456789abcdef");
    }

    /// Each column has its place; times count from 2000.
    #[test]
    fn a_live_session() {
        let row = Row::read(&record(&["r", "s"], &["p:x"])).unwrap();
        assert_eq!(row.as_of, POSTGRES_EPOCH + 1);
        let live = row.live.unwrap();
        let fill = live.fill();
        let (session, user) = (fill.session, fill.user);
        assert_eq!((session.id, session.verifier), ([0x1a; 16], [3; 32]));
        let times = [session.auth_time, session.expire, session.last_seen];
        assert_eq!(times.map(|time| time - POSTGRES_EPOCH), [3, 4, 5]);
        assert_eq!(session.previous, Some(([4; 32], POSTGRES_EPOCH + 9)));
        assert_eq!((session.epoch, user.version, user.epoch), (6, 7, 8));
        assert_eq!((user.id, user.end), ([0xff; 16], POSTGRES_EPOCH + 10));
        assert_eq!(user.roles, b"\x0a\x01r\x0a\x01s\x12\x03p:x");
        let text = b"ffffffff-ffff-ffff-ffff-ffffffffffff";
        let named = b"\x12\x03ada\x1a\x03Ada\x22\x0ba@b.example";
        let granted = b"\x2a\x01r\x2a\x01s\x32\x03p:x";
        let message = [&b"\x0a\x24"[..], text, named, granted].concat();
        assert_eq!(user.message, message);
        let begun = b"\x0a\x241a1a1a1a-1a1a-1a1a-1a1a-1a1a1a1a1a1a\x12\x24";
        let created = b"\x1a\x06\x08\x82\x87\xb5\xc3\x03\x22";
        let message = [&begun[..], text, created].concat();
        assert!(session.message.starts_with(&message));
    }

    /// The row of the time, where nothing was found; the other columns do not matter.
    #[test]
    fn no_session() {
        let mut record = record(&[], &[]);
        record.splice(24..44, (-1_i32).to_be_bytes());
        let row = Row::read(&record).unwrap();
        assert_eq!((row.as_of, row.live.is_none()), (POSTGRES_EPOCH + 1, true));
    }

    /// Cut anywhere before the columns that are not looked at, it cannot be read.
    #[test]
    fn a_cut_row() {
        let whole = record(&["r"], &[]);
        assert!(Row::read(&whole).is_ok());
        for cut in 0..whole.len() - 8 {
            assert!(Row::read(&whole[..cut]).is_err(), "{cut}");
        }
    }

    proptest! {
        /// Whatever else comes is read or not, and never a panic.
        #[test]
        fn any_bytes(bytes in vec(any::<u8>(), 0..400), place in 0_usize..400) {
            let _any = Row::read(&bytes);
            let mut changed = record(&["r"], &["p"]);
            for (at, byte) in bytes.iter().enumerate().take(4) {
                if let Some(there) = changed.get_mut(place + at) {
                    *there = *byte;
                }
            }
            let _changed = Row::read(&changed);
        }
    }
}
