//! What is taken out of headers on the way, and the one value that the gate reads.

use std::time::Duration;

use hyper::Request;
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};

/// Metadata that only the gate may set: what it has found out about a caller.
const OWN_PREFIX: &str = "x-watchword-";
/// Headers of one connection (RFC 9110, 7.6.1), and the name that `:authority` replaces.
const HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
    HOST,
];
pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Digits of a `grpc-timeout`.
const DIGITS_MAX: usize = 8;

/// Takes out of a request what grpc.aio must not see. `te` stays if it says `trailers`.
pub(crate) fn clean_request(headers: &mut HeaderMap) {
    clean_response(headers);
    if headers.get(TE).is_some_and(|value| value != "trailers") {
        headers.remove(TE);
    }
    let own: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(OWN_PREFIX))
        .cloned()
        .collect();
    for name in own {
        headers.remove(name);
    }
}

/// Takes out of a response what belongs to the connection that it came by.
pub(crate) fn clean_response(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Gives the size of a request's header list (RFC 9113, 6.5.2): names, values, 32 bytes each.
pub(crate) fn list_bytes<B>(request: &Request<B>) -> usize {
    let uri = request.uri();
    let method = (":method".len(), request.method().as_str().len());
    let scheme = (":scheme".len(), uri.scheme_str().map_or(0, str::len));
    let authority = uri
        .authority()
        .map_or(0, |authority| authority.as_str().len());
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    [
        method,
        scheme,
        (":authority".len(), authority),
        (":path".len(), path),
    ]
    .into_iter()
    .chain(
        request
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str().len(), value.len())),
    )
    .fold(0, |sum, (name, value)| {
        sum.saturating_add(name)
            .saturating_add(value)
            .saturating_add(32)
    })
}

/// Reads `grpc-timeout` (gRPC over HTTP/2, "Timeout"); what has another form is grpc.aio's to judge.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty()
        || digits.len() > DIGITS_MAX
        || !digits.bytes().all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count.saturating_mul(3_600))),
        "M" => Some(Duration::from_secs(count.saturating_mul(60))),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn requests_keep_what_is_grpc_and_lose_what_is_not_theirs() {
        let kept = [
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("grpc-timeout", "1S"),
            ("grpc-encoding", "gzip"),
            ("authorization", "Bearer x"),
            ("trace-bin", "AAEC"),
            ("x-watchwords", "mine"),
        ];
        let mut headers = map(&kept);
        for (name, value) in [
            ("x-watchword-user", "eve"),
            ("x-watchword-", "eve"),
            ("x-watchword-tag-bin", "AAEC"),
            ("connection", "close"),
            ("keep-alive", "5"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("host", "evil.example"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
            headers.append(name, HeaderValue::from_static("twice"));
        }
        clean_request(&mut headers);
        assert_eq!(headers, map(&kept));
    }

    #[test]
    fn a_header_list_counts_names_values_and_32_bytes_each() {
        let request = Request::post("http://host/path")
            .header("name", "value")
            .body(());
        let size = request.map(|request| list_bytes(&request));
        assert_eq!(size.ok(), Some(5 * 32 + 11 + 11 + 14 + 10 + 9));
    }

    #[test]
    fn te_says_trailers_or_nothing() {
        let mut headers = map(&[("te", "gzip")]);
        clean_request(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn timeouts_have_a_number_and_a_unit() {
        for (text, nanoseconds) in [
            ("1H", 3_600_000_000_000),
            ("2M", 120_000_000_000),
            ("3S", 3_000_000_000),
            ("4m", 4_000_000),
            ("5u", 5_000),
            ("6n", 6),
            ("0S", 0),
            ("00000007n", 7),
            ("99999999n", 99_999_999),
        ] {
            let expected = Some(Duration::from_nanos(nanoseconds));
            assert_eq!(timeout(&map(&[("grpc-timeout", text)])), expected, "{text}");
        }
        let longest = Duration::from_secs(99_999_999 * 3_600);
        assert_eq!(
            timeout(&map(&[("grpc-timeout", "99999999H")])),
            Some(longest)
        );
        for text in [
            "",
            "S",
            "1",
            "1s",
            "1 S",
            "+1S",
            "-1S",
            "1.5S",
            "123456789S",
            "1SS",
            "0x1S",
        ] {
            assert_eq!(timeout(&map(&[("grpc-timeout", text)])), None, "{text}");
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
    }
}
