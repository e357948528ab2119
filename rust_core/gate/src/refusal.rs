//! Refusals whose words are Python's: a status with its google.rpc details.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::respond::{GRPC_MESSAGE, GRPC_STATUS};

const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// A status other than OK, ready to be sent.
#[derive(Clone, Debug)]
pub struct Refusal(Arc<HeaderMap>);

impl Refusal {
    /// Makes one of a status code, a message and an encoded google.rpc.Status. None for a message
    /// that would have to be encoded (gRPC over HTTP/2, "Status-Message"): all but printable ASCII
    /// without `%`.
    #[must_use]
    pub fn new(code: u16, message: &str, details: &[u8]) -> Option<Self> {
        if !message
            .bytes()
            .all(|byte| byte != b'%' && (b' '..=b'~').contains(&byte))
        {
            return None;
        }
        let details = STANDARD_NO_PAD.encode(details);
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("application/grpc")),
            (GRPC_STATUS, HeaderValue::from(code)),
            (GRPC_MESSAGE, HeaderValue::from_str(message).ok()?),
            (DETAILS, HeaderValue::from_str(&details).ok()?),
        ];
        Some(Self(Arc::new(HeaderMap::from_iter(headers))))
    }

    /// The headers of a response without a body.
    pub(crate) fn headers(&self) -> HeaderMap {
        HeaderMap::clone(&self.0)
    }
}

/// The refusals that the gate gives on its own.
#[derive(Clone, Debug)]
pub struct Refusals {
    /// The token is that of no live session.
    pub invalid: Refusal,
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
        let headers = Refusal::new(16, "sign in again", &[0xff, 0xfe])
            .unwrap()
            .headers();
        assert_eq!(headers.get("grpc-status").unwrap(), "16");
        assert_eq!(headers.get("grpc-message").unwrap(), "sign in again");
        assert_eq!(headers.get("grpc-status-details-bin").unwrap(), "//4");
    }

    #[test]
    fn a_message_that_needs_encoding_is_refused() {
        for message in ["50 %", "a\nb", "\u{e9}", "\u{7f}"] {
            assert!(Refusal::new(16, message, &[]).is_none(), "{message:?}");
        }
    }
}
