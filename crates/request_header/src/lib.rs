//! Rules for the request headers that a subscription adds: which names and values are allowed.
//!
//! The extension rejects invalid headers with these rules. The dispatcher checks them again before
//! it sends a request. The crate reads and writes nothing.

use thiserror::Error;

/// Maximum length of a name, in bytes.
pub const NAME_BYTES_MAX: usize = 256;
/// Maximum length of a value, in bytes.
pub const VALUE_BYTES_MAX: usize = 4096;

/// Names that describe how the request travels, its sender, its content, or its authenticity.
const DENIED: [&str; 21] = [
    "accept-encoding",
    "connection",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "origin",
    "stripe-signature",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-hub-signature",
    "x-hub-signature-256",
];

/// Prefixes of reserved names: our own, the prefixes of the standards in use, and the prefixes that
/// proxies and clouds trust.
const DENIED_PREFIXES: [&str; 14] = [
    "ce-",
    "content-",
    "proxy-",
    "sec-",
    "svix-",
    "webhook-",
    "x-amz-",
    "x-azure-",
    "x-fd-",
    "x-forwarded-",
    "x-gfe-",
    "x-goog-",
    "x-google-",
    "x-svix-",
];

/// The reason why a header is rejected.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum Invalid {
    #[error("invalid header name (RFC 9110: letters, digits and !#$%&'*+-.^_`|~)")]
    Name,
    #[error("the name must have at most 256 bytes")]
    NameTooLong,
    #[error("the name is reserved")]
    Reserved,
    #[error("the value must have at most 4096 bytes")]
    ValueTooLong,
    #[error("the value must not contain line breaks or other control characters")]
    Control,
    #[error("the value must not begin or end with a space")]
    Padded,
}

/// Reports whether a name, in any case, is reserved for the request itself.
pub fn is_denied(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    DENIED.contains(&name.as_str()) || DENIED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Checks that a name is an RFC 9110 token and is not reserved.
///
/// # Errors
/// Returns the broken rule.
pub fn check_name(name: &str) -> Result<(), Invalid> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        Err(Invalid::Name)
    } else if name.len() > NAME_BYTES_MAX {
        Err(Invalid::NameTooLong)
    } else if is_denied(name) {
        Err(Invalid::Reserved)
    } else {
        Ok(())
    }
}

/// Checks a value. It must not contain anything that could end its line or start another.
///
/// # Errors
/// Returns the broken rule.
pub fn check_value(value: &str) -> Result<(), Invalid> {
    if value.len() > VALUE_BYTES_MAX {
        Err(Invalid::ValueTooLong)
    } else if value.chars().any(char::is_control) {
        Err(Invalid::Control)
    } else if value.starts_with(' ') || value.ends_with(' ') {
        Err(Invalid::Padded)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names() {
        for name in ["Authorization", "X-Api-Key", "x_y", "Content", "hosts", "!#$%&'*+-.^_`|~", "x-goo"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", "a b", "a:b", "a\r\nb", "größe", "(x)", "a\0"] {
            assert_eq!(check_name(name), Err(Invalid::Name), "{name:?}");
        }
        for name in
            ["Host", "WEBHOOK-ID", "ce-type", "Content-Type", "X-Forwarded-For", "Transfer-Encoding", "TE"]
        {
            assert_eq!(check_name(name), Err(Invalid::Reserved), "{name}");
        }
        assert_eq!(check_name(&"x".repeat(NAME_BYTES_MAX)), Ok(()));
        assert_eq!(check_name(&"x".repeat(NAME_BYTES_MAX + 1)), Err(Invalid::NameTooLong));
    }

    #[test]
    fn values() {
        assert_eq!(check_value("Bearer hunter2"), Ok(()));
        assert_eq!(check_value(""), Ok(()));
        assert_eq!(check_value("Zoë"), Ok(()));
        assert_eq!(check_value(&"x".repeat(VALUE_BYTES_MAX)), Ok(()));
        assert_eq!(check_value(&"x".repeat(VALUE_BYTES_MAX + 1)), Err(Invalid::ValueTooLong));
        for value in ["a\r\nb", "a\n", "\ta", "a\0b", "\u{7f}", "a\u{85}b"] {
            assert_eq!(check_value(value), Err(Invalid::Control), "{value:?}");
        }
        for value in [" ", " a", "a "] {
            assert_eq!(check_value(value), Err(Invalid::Padded), "{value:?}");
        }
    }

    proptest! {
        /// A reserved name is denied in any mix of upper and lower case.
        #[test]
        fn reserved_in_any_case(at in 0..DENIED.len(), upper in proptest::collection::vec(any::<bool>(), 20)) {
            let letter = |(c, upper): (char, &bool)| if *upper { c.to_ascii_uppercase() } else { c };
            let name: String = DENIED[at].chars().zip(&upper).map(letter).collect();
            prop_assert!(is_denied(&name));
        }
    }
}
