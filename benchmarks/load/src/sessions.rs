//! The tokens to call with, and which one is next.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut, Bytes, BytesMut};

use crate::job::DrawKind;

/// What one call asks for, its request encoded once.
#[derive(Debug)]
pub struct Session {
    /// The message of gRPC with its prefix of five bytes: a `ValidateSessionRequest`, or a
    /// `BatchValidateSessionsRequest`, which is the same with the field more than once.
    pub request: Bytes,
    /// The users that a right answer names, one for each token.
    pub user_ids: Vec<Bytes>,
}

/// Reads lines of a token and a user's id, so many to a call; what is left over is left out.
pub fn parse(text: &str, batch: usize) -> Result<Vec<Session>, String> {
    let lines: Option<Vec<(&str, &str)>> = text.lines().map(|line| line.split_once(' ')).collect();
    let sessions: Option<Vec<Session>> = lines.and_then(|lines| {
        let calls = lines.chunks_exact(batch);
        calls.map(session).collect()
    });
    match sessions {
        Some(sessions) if !sessions.is_empty() => Ok(sessions),
        _ => Err("the file of sessions has lines of a token, a space and a user's id".into()),
    }
}

fn session(lines: &[(&str, &str)]) -> Option<Session> {
    let mut fields = BytesMut::new();
    for (token, _) in lines {
        put_field(&mut fields, token.as_bytes())?;
    }
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(fields.len()).ok()?);
    framed.put(fields);
    let user_ids = lines
        .iter()
        .map(|(_, id)| Bytes::copy_from_slice(id.as_bytes()));
    Some(Session {
        request: framed.freeze(),
        user_ids: user_ids.collect(),
    })
}

/// Field 1 with these bytes; None for text beyond 16,383 bytes.
fn put_field(message: &mut BytesMut, text: &[u8]) -> Option<()> {
    message.put_u8(0x0a);
    match u16::try_from(text.len()).ok()? {
        length @ 0..0x80 => message.put_u8(length.to_le_bytes()[0]),
        length @ 0x80..0x4000 => {
            let [low, high] = (length << 1).to_be_bytes();
            message.put_slice(&[high >> 1 | 0x80, low]);
        }
        _ => return None,
    }
    message.put_slice(text);
    Some(())
}

/// `SplitMix64`, which is no secret's source: it draws lines of a file.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each number of one seed.
    pub fn new(seed: u64, number: usize) -> Self {
        let number = u64::try_from(number).unwrap_or(u64::MAX);
        let mut seeds = Self(seed ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03));
        Self(seeds.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0, without 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what f64 holds")]
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Which line is next.
#[derive(Debug)]
pub struct Draw {
    lines: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Uniform,
    /// The sums of the weights up to each line.
    Zipf(Vec<f64>),
    Sequence(AtomicUsize),
}

impl Draw {
    /// Draws of `0..lines`.
    #[expect(clippy::cast_precision_loss, reason = "nobody has 2^53 lines")]
    pub fn new(kind: DrawKind, lines: usize) -> Self {
        let kind = match kind {
            DrawKind::Uniform => Kind::Uniform,
            DrawKind::Sequence => Kind::Sequence(AtomicUsize::new(0)),
            DrawKind::Zipf(exponent) => {
                let mut sum = 0.0;
                let sums = (1..=lines).map(|line| {
                    sum += (line as f64).powf(-exponent);
                    sum
                });
                Kind::Zipf(sums.collect())
            }
        };
        Self { lines, kind }
    }

    /// The next line.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a fraction of the lines is one of them"
    )]
    pub fn next(&self, random: &mut Random) -> usize {
        let line = match &self.kind {
            Kind::Uniform => (random.fraction() * self.lines as f64) as usize,
            Kind::Zipf(sums) => {
                let point = random.fraction() * sums.last().copied().unwrap_or_default();
                sums.partition_point(|sum| *sum <= point)
            }
            Kind::Sequence(next) => next.fetch_add(1, Ordering::Relaxed) % self.lines,
        };
        line.min(self.lines - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(kind: DrawKind, draws: usize) -> Vec<usize> {
        let (draw, mut random) = (Draw::new(kind, 10), Random::new(1, 0));
        let mut counts = vec![0; 10];
        for _ in 0..draws {
            counts[draw.next(&mut random)] += 1;
        }
        counts
    }

    #[test]
    fn a_request_is_framed_with_lengths_of_one_or_two_bytes() {
        let parsed = parse("ab user\n", 1).unwrap();
        assert_eq!(parsed[0].request.as_ref(), b"\0\0\0\0\x04\x0a\x02ab");
        assert_eq!(parsed[0].user_ids, ["user"]);
        let long = parse(&format!("{} user", "x".repeat(200)), 1).unwrap();
        assert_eq!(&long[0].request[..8], b"\0\0\0\0\xcb\x0a\xc8\x01");
        assert!(parse("", 1).is_err());
        assert!(parse("token-without-user", 1).is_err());
    }

    #[test]
    fn a_batch_has_its_tokens_in_their_order() {
        let parsed = parse("a one\nb two\nc three\n", 2).unwrap();
        assert_eq!(parsed.len(), 1);
        assert_eq!(
            parsed[0].request.as_ref(),
            b"\0\0\0\0\x06\x0a\x01a\x0a\x01b"
        );
        assert_eq!(parsed[0].user_ids, ["one", "two"]);
    }

    #[test]
    fn draws_have_their_distribution() {
        assert_eq!(counts(DrawKind::Sequence, 25)[4..6], [3, 2]);
        assert!(
            counts(DrawKind::Uniform, 100_000)
                .iter()
                .all(|count| (9_000..11_000).contains(count))
        );
        let zipf = counts(DrawKind::Zipf(1.0), 100_000);
        // The weights are 1/n: the first ten sum to 2.929.
        assert!((33_000..35_300).contains(&zipf[0]), "{zipf:?}");
        assert!((3_000..3_900).contains(&zipf[9]), "{zipf:?}");
    }
}
