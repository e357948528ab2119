//! The vectors that Rust and Python share, computed by neither; see `tests/vectors/`.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::otp::unbiased;
use crate::token::{verifier, write_token};
use crate::{CodeSource, DeviceTimes, Error, KeyRing, KnownChange, parse_code, slot_of_subject};

const OTP: &str = include_str!("../../../tests/vectors/otp.json");
const TOKEN: &str = include_str!("../../../tests/vectors/token.json");
const SERVICE_KEY: &str = include_str!("../../../tests/vectors/service_key.json");
const DEVICE: &str = include_str!("../../../tests/vectors/device.json");
const CHANGE: &str = include_str!("../../../tests/vectors/change.json");
const SUBJECT: &str = include_str!("../../../tests/vectors/subject.json");
const LIMIT: &str = include_str!("../../../tests/vectors/limit.json");
const CODE_FORMS: &str = include_str!("../../../tests/vectors/code_forms.json");

/// Decodes hex of a known-good vector.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn sized<const SIZE: usize>(text: &str) -> [u8; SIZE] {
    hex(text).try_into().unwrap()
}

fn read<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap()
}

#[derive(Deserialize)]
struct Key {
    id: u8,
    key: String,
}

#[derive(Deserialize)]
struct Ring {
    keys: Vec<Key>,
    index_key: String,
}

impl Ring {
    fn build(&self) -> KeyRing {
        let keys: Vec<(u8, Vec<u8>)> = self.keys.iter().map(|k| (k.id, hex(&k.key))).collect();
        let keys: Vec<(u8, &[u8])> = keys.iter().map(|(id, key)| (*id, &key[..])).collect();
        KeyRing::new(&keys, &hex(&self.index_key)).unwrap()
    }
}

#[derive(Deserialize)]
struct File<Case, Refused> {
    ring: Ring,
    cases: Vec<Case>,
    #[serde(default = "Vec::new")]
    refused: Vec<Refused>,
}

#[derive(Deserialize)]
struct RefusedText {
    #[serde(alias = "text")]
    token: String,
    why: String,
}

#[derive(Deserialize)]
struct CodeCase {
    key_id: u8,
    purpose: String,
    challenge_id: String,
    subject_key: String,
    nonce: String,
    length: u8,
    #[serde(default)]
    code: String,
}

impl CodeCase {
    fn with_source<T>(&self, use_it: impl FnOnce(&CodeSource<'_>) -> T) -> T {
        use_it(&CodeSource {
            key_id: self.key_id,
            purpose: &self.purpose,
            challenge_id: &sized(&self.challenge_id),
            subject_key: &sized(&self.subject_key),
            nonce: &sized(&self.nonce),
        })
    }
}

/// Codes are derived as the vectors say, and found again by the check.
#[test]
fn codes_agree() {
    let file: File<CodeCase, CodeCase> = read(OTP);
    let ring = file.ring.build();
    assert!(file.cases.len() > 30);
    for case in &file.cases {
        case.with_source(|source| {
            let code = ring.derive_code(source, case.length).unwrap();
            assert_eq!(code.reveal(), case.code);
            let read = parse_code(&case.code).unwrap();
            let found = ring.check_code(read.canonical.reveal(), read.form, &[*source]);
            assert_eq!(found, Some(0));
        });
    }
    for case in &file.refused {
        let error = case.with_source(|source| ring.derive_code(source, case.length).unwrap_err());
        let expected = [Error::CodeLength, Error::KeyIdUnknown(case.key_id)];
        assert!(expected.contains(&error), "{error:?}");
    }
}

/// Words at and around the limit of rejection are reduced as the vectors say.
#[test]
fn reductions_agree() {
    #[derive(Deserialize)]
    struct Reduction {
        mac: String,
        length: u32,
        value: Option<u64>,
    }
    #[derive(Deserialize)]
    struct Reductions {
        reductions: Vec<Reduction>,
    }
    let file: Reductions = read(OTP);
    assert!(file.reductions.len() > 5);
    for case in file.reductions {
        let value = unbiased(&sized(&case.mac), 10_u64.pow(case.length));
        assert_eq!(value, case.value, "{} {}", case.mac, case.length);
    }
}

/// Tokens are written and read as the vectors say; the refused ones are refused.
#[test]
fn tokens_agree() {
    #[derive(Deserialize)]
    struct TokenCase {
        key_id: u8,
        session_id: String,
        secret: String,
        token: String,
        verifier: String,
    }
    let file: File<TokenCase, RefusedText> = read(TOKEN);
    let ring = file.ring.build();
    assert!(file.cases.len() > 10 && file.refused.len() > 30);
    for case in &file.cases {
        let key = ring.find(case.key_id).unwrap();
        let (id, secret) = (sized(&case.session_id), sized(&case.secret));
        assert_eq!(write_token(key, &id, &secret).reveal(), case.token);
        assert_eq!(verifier(key, &id, &secret), sized(&case.verifier));
        let read = ring.parse_session_token(&case.token).unwrap();
        assert_eq!(read.session_id, id);
        assert_eq!(read.key_id, case.key_id);
        assert_eq!(read.verifier, sized(&case.verifier));
    }
    for case in &file.refused {
        let read = ring.parse_session_token(&case.token);
        assert!(read.is_none(), "{}", case.why);
    }
}

/// Service keys are written and read as the vectors say; the refused ones are refused.
#[test]
fn service_keys_agree() {
    #[derive(Deserialize)]
    struct ServiceKey {
        secret: String,
        token: String,
        sha256: String,
    }
    let file: File<ServiceKey, RefusedText> = read(SERVICE_KEY);
    let ring = file.ring.build();
    assert!(file.cases.len() > 3 && file.refused.len() > 25);
    for case in &file.cases {
        let token = ring.write_service_key(&sized(&case.secret));
        assert_eq!(token.reveal(), case.token);
        let digest = ring.parse_service_key(&case.token).unwrap();
        assert_eq!(digest, sized(&case.sha256));
    }
    for case in &file.refused {
        let read = ring.parse_service_key(&case.token);
        assert!(read.is_none(), "{}", case.why);
    }
}

/// Device tokens are written and read as the vectors say; the refused ones are refused.
#[test]
fn device_tokens_agree() {
    #[derive(Deserialize)]
    struct Device {
        subject_key: String,
        since_us: i64,
        issued_us: i64,
        token: String,
    }
    #[derive(Deserialize)]
    struct Refused {
        subject_key: String,
        token: String,
        why: String,
    }
    let file: File<Device, Refused> = read(DEVICE);
    let ring = file.ring.build();
    assert!(file.cases.len() > 4 && file.refused.len() > 35);
    for case in &file.cases {
        let subject_key = sized(&case.subject_key);
        let times = DeviceTimes {
            since_us: case.since_us,
            issued_us: case.issued_us,
        };
        let token = ring.mint_device_token(&subject_key, times);
        assert_eq!(token.reveal(), case.token);
        let read = ring.check_device_token(&case.token, &subject_key);
        assert_eq!(read, Some(times));
    }
    for case in &file.refused {
        let read = ring.check_device_token(&case.token, &sized(&case.subject_key));
        assert!(read.is_none(), "{}", case.why);
    }
}

/// Change tokens are written and read as the vectors say; the refused ones are refused.
#[test]
fn change_tokens_agree() {
    #[derive(Deserialize)]
    struct Known {
        kind: u8,
        id: String,
        epoch: i64,
        version: i64,
    }
    #[derive(Deserialize)]
    struct ChangeCase {
        changes: Vec<Known>,
        token: String,
    }
    let file: File<ChangeCase, RefusedText> = read(CHANGE);
    let ring = file.ring.build();
    assert!(file.cases.len() > 5 && file.refused.len() > 35);
    for case in &file.cases {
        let known = |change: &Known| KnownChange {
            kind: change.kind,
            id: sized(&change.id),
            epoch: change.epoch,
            version: change.version,
        };
        let changes: Vec<KnownChange> = case.changes.iter().map(known).collect();
        assert_eq!(ring.mint_change_token(&changes).unwrap(), case.token);
        assert_eq!(ring.parse_change_token(&case.token), Some(changes));
    }
    for case in &file.refused {
        let read = ring.parse_change_token(&case.token);
        assert!(read.is_none(), "{}", case.why);
    }
}

/// Subject keys and their slots are as the vectors say.
#[test]
fn subjects_agree() {
    #[derive(Deserialize)]
    struct SubjectCase {
        account_key: String,
        subject_key: String,
        slot: u16,
    }
    let file: File<SubjectCase, RefusedText> = read(SUBJECT);
    let ring = file.ring.build();
    assert!(file.cases.len() > 4);
    for case in &file.cases {
        let key = ring.subject_key(&case.account_key);
        assert_eq!(key, sized(&case.subject_key));
        assert_eq!(slot_of_subject(&key), case.slot);
    }
}

/// Limit keys are as the vectors say.
#[test]
fn limits_agree() {
    #[derive(Deserialize)]
    struct LimitCase {
        kind: String,
        value: String,
        limit_key: String,
    }
    let file: File<LimitCase, RefusedText> = read(LIMIT);
    let ring = file.ring.build();
    assert!(file.cases.len() > 4);
    for case in &file.cases {
        let key = ring.limit_key(&case.kind, &hex(&case.value));
        assert_eq!(key, sized(&case.limit_key));
    }
}

/// What people type is read as the vectors say; the refused forms are refused.
#[test]
fn code_forms_agree() {
    #[derive(Deserialize)]
    struct FormCase {
        text: String,
        form: u8,
        canonical: String,
    }
    #[derive(Deserialize)]
    struct Forms {
        cases: Vec<FormCase>,
        refused: Vec<RefusedText>,
    }
    let file: Forms = read(CODE_FORMS);
    assert!(file.cases.len() > 30 && file.refused.len() > 30);
    for case in file.cases {
        let read = parse_code(&case.text).expect(&case.text);
        assert_eq!(
            (read.form, read.canonical.reveal()),
            (case.form, case.canonical.as_str()),
            "{:?}",
            case.text
        );
    }
    for case in file.refused {
        assert!(parse_code(&case.token).is_none(), "{}", case.why);
    }
}
