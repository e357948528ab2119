//! Properties of everything that reads what comes from outside.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

use std::sync::LazyLock;

use proptest::prelude::*;
use watchword_core::{
    CHANGES_MAX, CodeSource, DeviceTimes, KeyRing, KnownChange, is_device_token, parse_code,
};

static RING: LazyLock<KeyRing> =
    LazyLock::new(|| KeyRing::new(&[(1, &[1; 32]), (2, &[2; 32])], &[3; 32]).unwrap());

const SUBJECT: [u8; 32] = [9; 32];

fn session_token() -> String {
    let minted = RING.mint_session(77).unwrap();
    minted.token.reveal().to_owned()
}

fn service_key() -> String {
    RING.mint_service_key().unwrap().reveal().to_owned()
}

fn device_token() -> String {
    let times = DeviceTimes {
        since_us: 1_763_856_000_000_000,
        issued_us: 1_771_632_000_123_456,
    };
    RING.mint_device_token(&SUBJECT, times).reveal().to_owned()
}

fn change_token() -> String {
    let change = KnownChange {
        kind: 1,
        id: [7; 16],
        epoch: 3,
        version: 41,
    };
    RING.mint_change_token(&[change]).unwrap()
}

fn accepted(token: &str) -> bool {
    RING.parse_session_token(token).is_some()
        || RING.parse_service_key(token).is_some()
        || RING.check_device_token(token, &SUBJECT).is_some()
        || RING.parse_change_token(token).is_some()
}

/// Flips the case of the letter at or after `at`; every token has letters all over.
fn flip_case(token: &str, at: usize) -> String {
    let mut bytes = token.as_bytes().to_vec();
    let size = bytes.len();
    let found = (0..size)
        .map(|step| (at + step) % size)
        .find(|index| bytes[*index].is_ascii_alphabetic());
    bytes[found.unwrap()] ^= 0x20;
    String::from_utf8(bytes).unwrap()
}

fn code_like() -> impl Strategy<Value = String> {
    let ignored = "[- \t\n\u{2010}-\u{2015}\u{2212}\u{a0}\u{3000}]{0,2}";
    prop::collection::vec((ignored, "[0-9A-Za-z]"), 0..16)
        .prop_map(|parts| parts.into_iter().map(|(gap, c)| gap + &c).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// No text makes a parser panic, and none that was not minted is accepted.
    #[test]
    fn any_text_is_refused(text in any::<String>()) {
        prop_assert!(!accepted(&text));
        let _ = parse_code(&text);
    }

    /// Text in the very form of a token, but for a tag that only the ring can make, is refused.
    #[test]
    fn invented_tokens_are_refused(
        session in "ww_[A-Za-z0-9_-]{76}",
        service in "wwk_[A-Za-z0-9_-]{53}[AQgw]",
        device in "wwd_AQ[A-Za-z0-9_-]{42}",
        change in "wwc_AQ[A-Za-z0-9_-]{64}[AEIMQUYcgkosw048]",
    ) {
        prop_assert!(!accepted(&session));
        prop_assert!(!accepted(&service));
        prop_assert!(is_device_token(&device));
        prop_assert!(!accepted(&device));
        prop_assert!(!accepted(&change));
    }

    /// Minted tokens are accepted as what they are, and not as the other kind.
    #[test]
    fn minted_tokens_are_accepted(slot in 0_u16..4096) {
        let minted = RING.mint_session(slot).unwrap();
        let read = RING.parse_session_token(minted.token.reveal()).unwrap();
        prop_assert_eq!(read.session_id, minted.session_id);
        prop_assert_eq!(read.verifier, minted.verifier);
        prop_assert!(RING.parse_service_key(minted.token.reveal()).is_none());
        let key = service_key();
        prop_assert!(RING.parse_service_key(&key).is_some());
        prop_assert!(RING.parse_session_token(&key).is_none());
    }

    /// A device token says its times to its subject alone.
    #[test]
    fn device_tokens_are_their_subjects(
        since_us: i64,
        issued_us: i64,
        subject in any::<[u8; 32]>(),
        other in any::<[u8; 32]>(),
    ) {
        let times = DeviceTimes { since_us, issued_us };
        let token = RING.mint_device_token(&subject, times);
        prop_assert_eq!(RING.check_device_token(token.reveal(), &subject), Some(times));
        let read = RING.check_device_token(token.reveal(), &other);
        prop_assert_eq!(read.is_some(), other == subject);
    }

    /// A change token says what it was made of.
    #[test]
    fn change_tokens_are_read_back(
        entries in prop::collection::vec(any::<(u8, [u8; 16], i64, i64)>(), 1..=CHANGES_MAX),
    ) {
        let change = |(kind, id, epoch, version)| KnownChange { kind, id, epoch, version };
        let changes: Vec<KnownChange> = entries.into_iter().map(change).collect();
        let token = RING.mint_change_token(&changes).unwrap();
        prop_assert_eq!(RING.parse_change_token(&token), Some(changes));
    }

    /// Any one character replaced, put in or taken out, any case or bit flipped, is refused.
    #[test]
    fn mutants_are_refused(at in 0_usize..1000, bit in 0_u32..7, other in any::<char>()) {
        for token in [session_token(), service_key(), device_token(), change_token()] {
            let at = at % token.len();
            let (head, tail) = token.split_at(at);
            let replaced = format!("{head}{other}{}", &tail[1..]);
            prop_assert_eq!(accepted(&replaced), replaced == token);
            let inserted = format!("{head}{other}{tail}");
            prop_assert!(!accepted(&inserted));
            let removed = format!("{head}{}", &tail[1..]);
            prop_assert!(!accepted(&removed));
            prop_assert!(!accepted(head));
            prop_assert!(!accepted(&flip_case(&token, at)));
            let mut bytes = token.into_bytes();
            bytes[at] ^= 1 << bit;
            let flipped = String::from_utf8(bytes).unwrap();
            prop_assert!(!accepted(&flipped));
        }
    }

    /// Anything put around a token is refused.
    #[test]
    fn surroundings_are_refused(around in "[A-Za-z0-9=_ \n-]{1,4}") {
        for token in [session_token(), service_key(), device_token(), change_token()] {
            let before = format!("{around}{token}");
            prop_assert!(!accepted(&before));
            let after = format!("{token}{around}");
            prop_assert!(!accepted(&after));
        }
    }

    /// What the code parser accepts is a form with its own canonical text, read back unchanged.
    #[test]
    fn canonical_codes_are_stable(text in code_like()) {
        if let Some(code) = parse_code(&text) {
            let canonical = code.canonical.reveal();
            prop_assert!(matches!(code.form, 6..=10 | 13));
            prop_assert_eq!(canonical.len(), usize::from(code.form));
            let symbols = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
            prop_assert!(canonical.chars().all(|c| symbols.contains(c)));
            let again = parse_code(canonical).unwrap();
            prop_assert_eq!((again.form, again.canonical.reveal()), (code.form, canonical));
        }
    }

    /// A derived code is accepted however a person groups it, and only for its own challenge.
    #[test]
    fn derived_codes_are_accepted(
        fields in any::<([u8; 16], [u8; 16])>(),
        purpose in "[a-z_]{0,20}",
        gap in "[- ]{0,1}",
        length in prop_oneof![6_u8..=10, Just(13)],
    ) {
        let source = CodeSource {
            key_id: 1,
            purpose: &purpose,
            challenge_id: &fields.0,
            subject_key: &[9; 32],
            nonce: &fields.1,
        };
        let code = RING.derive_code(&source, length).unwrap();
        let (left, right) = code.reveal().split_at(3);
        let read = parse_code(&format!("{left}{gap}{right}")).unwrap();
        prop_assert_eq!(read.form, length);
        let check = |candidate| RING.check_code(read.canonical.reveal(), read.form, &[candidate]);
        prop_assert_eq!(check(source), Some(0));
        prop_assert_eq!(check(CodeSource { key_id: 3, ..source }), None);
    }
}
