//! Refusals whose words are Python's: a status with its google.rpc details.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::respond::{GRPC_MESSAGE, GRPC_STATUS};

const HEX: [char; 16] = [
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
];
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// A status other than OK, ready to be sent.
#[derive(Clone, Debug)]
pub struct Refusal(Arc<HeaderMap>);

impl Refusal {
    /// Makes one of a status code, a message and an encoded google.rpc.Status.
    #[must_use]
    pub fn new(code: u16, message: &str, details: &[u8]) -> Self {
        let details = STANDARD_NO_PAD.encode(details);
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("application/grpc")),
            (GRPC_STATUS, HeaderValue::from(code)),
            (GRPC_MESSAGE, ascii(encoded(message))),
            (DETAILS, ascii(details)),
        ];
        Self(Arc::new(HeaderMap::from_iter(headers)))
    }

    /// The headers of a response without a body.
    pub(crate) fn headers(&self) -> HeaderMap {
        HeaderMap::clone(&self.0)
    }
}

/// Percent-encodes a message (gRPC over HTTP/2, "Status-Message"): all but printable ASCII, and `%`.
fn encoded(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        if byte != b'%' && (b' '..=b'~').contains(&byte) {
            out.push(char::from(byte));
        } else {
            let [high, low] = [byte >> 4, byte & 0xf].map(|half| HEX.get(usize::from(half)));
            out.extend(['%'].iter().chain(high).chain(low));
        }
    }
    out
}

fn ascii(printable: String) -> HeaderValue {
    HeaderValue::try_from(printable).unwrap_or_else(|_never| HeaderValue::from_static(""))
}

/// The refusals that the gate gives on its own.
#[derive(Clone, Debug)]
pub struct Refusals {
    /// The token is that of no live session.
    pub invalid: Refusal,
    /// The session lives, but its user proved the address too long ago.
    pub reauthentication_needed: Refusal,
    /// There is no room; to be asked again later.
    pub overloaded: Refusal,
    /// The database did not answer in time.
    pub unavailable: Refusal,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_three_values() {
        let headers = Refusal::new(16, "sign in again", &[0xff, 0xfe]).headers();
        assert_eq!(headers.get("grpc-status").unwrap(), "16");
        assert_eq!(headers.get("grpc-message").unwrap(), "sign in again");
        assert_eq!(headers.get("grpc-status-details-bin").unwrap(), "//4");
    }

    #[test]
    fn what_is_not_plain_is_encoded() {
        for (message, sent) in [
            ("50 %", "50 %25"),
            ("a\nb", "a%0Ab"),
            ("\u{e9}~", "%C3%A9~"),
            ("\u{7f}", "%7F"),
            ("", ""),
        ] {
            let headers = Refusal::new(16, message, &[]).headers();
            assert_eq!(headers.get("grpc-message").unwrap(), sent);
        }
    }
}
