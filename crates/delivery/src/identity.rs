//! The names under which the daemon appears to receivers.

use crate::body::Source;
use http::header::HeaderValue;
use thiserror::Error;

/// A text that is not a valid origin.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("an origin must be a DNS name such as hooks.example.com")]
pub struct BadOrigin;

/// The daemon's names, which are the same for every subscription.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// The source of the events (CloudEvents).
    pub source: Source,
    /// The sender of the events: `WebHook-Request-Origin`, a DNS name.
    pub origin: HeaderValue,
}

/// Maximum length of a DNS name, in bytes.
const NAME_BYTES_MAX: usize = 253;

impl Identity {
    /// Parses a DNS name.
    ///
    /// # Errors
    /// Returns [`BadOrigin`] if the text is not a DNS name.
    pub fn origin(text: &str) -> Result<HeaderValue, BadOrigin> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':');
        if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(is_name) {
            return Err(BadOrigin);
        }
        HeaderValue::from_str(text).map_err(|_| BadOrigin)
    }

    /// Returns this machine's own name.
    pub fn origin_of_this_machine() -> HeaderValue {
        let system = rustix::system::uname();
        let name = system.nodename().to_str().unwrap_or_default();
        Self::origin(name).unwrap_or(HeaderValue::from_static("localhost"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_name() {
        for name in ["hooks.example.com", "xn--bcher-kva.example", "db_1", "host:8443"] {
            assert_eq!(Identity::origin(name).unwrap(), name);
        }
        for text in ["", "a b", "bücher.example", "a\r\nb", "https://a", &"a".repeat(254)] {
            assert_eq!(Identity::origin(text), Err(BadOrigin), "{text}");
        }
        assert!(!Identity::origin_of_this_machine().is_empty());
    }
}
