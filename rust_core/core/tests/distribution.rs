//! Codes are spread evenly: a chi-square test over fixed inputs, so that it never fails by chance.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

use watchword_core::{CodeSource, KeyRing};

const CODES: u32 = 100_000;

/// Chi-square of ten equally likely digits; above 27.88 (9 degrees of freedom) once in 1,000.
fn chi_square(counts: [u32; 10]) -> f64 {
    let expected = f64::from(CODES) / 10.0;
    counts
        .iter()
        .map(|count| (f64::from(*count) - expected).powi(2) / expected)
        .sum()
}

/// At each of the positions of 10^5 codes, every digit is equally frequent.
#[test]
fn digits_are_even() {
    let ring = KeyRing::new(&[(1, &[1; 32])], &[2; 32]).unwrap();
    let mut counts = [[0_u32; 10]; 6];
    for number in 0..CODES {
        let mut nonce = [0; 16];
        nonce[..4].copy_from_slice(&number.to_be_bytes());
        let source = CodeSource {
            key_id: 1,
            purpose: "login",
            challenge_id: &[3; 16],
            subject_key: &[4; 32],
            nonce: &nonce,
        };
        let code = ring.derive_code(&source, 6).unwrap();
        for (position, digit) in code.reveal().bytes().enumerate() {
            counts[position][usize::from(digit - b'0')] += 1;
        }
    }
    for (position, counts) in counts.into_iter().enumerate() {
        let value = chi_square(counts);
        assert!(value < 27.88, "position {position}: {value} of {counts:?}");
    }
}
