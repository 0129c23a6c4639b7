//! Parses the additional request headers of a subscription. Pure.
//!
//! `webhook_subscribe()` rejects invalid headers by the same rules. A header that is left out here
//! was written to the table directly.

use crate::members::members;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use request_header::{check_name, check_value};

/// A header that is not sent, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    pub name: String,
    pub why: String,
}

/// The parsed headers of a subscription.
#[derive(Debug, Default, PartialEq)]
pub struct Parsed {
    pub map: HeaderMap,
    /// Those names that contain upper case. A [`HeaderMap`] has lower case only.
    pub names: Vec<Box<str>>,
    pub left_out: Vec<LeftOut>,
}

/// Parses `webhook.subscription.headers`, an object of texts. Returns the valid headers, and the
/// reasons for the others. Each value is parsed separately, so a number that Rust cannot represent
/// affects no other header.
pub fn parse(headers: &str) -> Parsed {
    let mut parsed = Parsed::default();
    for (name, value) in members(headers.as_bytes()).unwrap_or_default() {
        match header(&name, value.get()) {
            Ok((header, value)) => {
                parsed.map.insert(header, value);
                if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    parsed.names.push(name.into());
                }
            }
            Err(why) => parsed.left_out.push(LeftOut { name, why }),
        }
    }
    parsed
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let text: String = serde_json::from_str(value).map_err(|_| "the value must be a string")?;
    let text = text.as_str();
    check_name(name).and_then(|()| check_value(text)).map_err(|why| why.to_string())?;
    let name = HeaderName::try_from(name).map_err(|error| error.to_string())?;
    let mut value = HeaderValue::from_str(text).map_err(|error| error.to_string())?;
    // The value may be a password, so Debug must not print it.
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use request_header::{VALUE_BYTES_MAX, is_denied};
    use serde_json::json;

    #[test]
    fn what_is_allowed_is_sent_and_the_rest_is_named() {
        let long = "x".repeat(VALUE_BYTES_MAX + 1);
        let Parsed { map, names, left_out } = parse(&json!({
            "Authorization": "Bearer hunter2", "X-Api-Key": "", "x-tenant": "Zoë",
            "Host": "evil", "WEBHOOK-ID": "evt_0", "ce-type": "x", "Content-Type": "text/plain", "X-Forwarded-For": "::1",
            "a b": "x", "": "x", "x-crlf": "a\r\nhost: evil", "x-nul": "\u{0}", "x-long": long, "x-number": 1, "x-null": null,
        })
        .to_string());
        let sent: Vec<_> = map.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let wanted: [(&str, &[u8]); 3] =
            [("authorization", b"Bearer hunter2"), ("x-api-key", b""), ("x-tenant", "Zoë".as_bytes())];
        assert_eq!(sent, wanted);
        assert_eq!(names, [Box::from("Authorization"), Box::from("X-Api-Key")]);
        assert!(!format!("{map:?}").contains("hunter2"));
        let mut names: Vec<_> = left_out.iter().map(|out| out.name.as_str()).collect();
        names.sort_unstable();
        let wanted = [
            "",
            "Content-Type",
            "Host",
            "WEBHOOK-ID",
            "X-Forwarded-For",
            "a b",
            "ce-type",
            "x-crlf",
            "x-long",
            "x-nul",
            "x-null",
            "x-number",
        ];
        assert_eq!(names, wanted);
        assert!(!format!("{left_out:?}").contains("evil"), "no value is shown");
    }

    #[test]
    fn what_is_no_object_has_no_headers() {
        for value in ["null", "[]", "\"host\"", ""] {
            assert_eq!(parse(value), Parsed::default());
        }
    }

    #[test]
    fn a_number_out_of_range_takes_no_other_header_along() {
        let Parsed { map, left_out, .. } = parse(r#"{"x-a":"1","x-huge":1e400}"#);
        assert_eq!((map["x-a"].as_bytes(), left_out.len()), (&b"1"[..], 1));
    }

    proptest! {
        /// For any content of the table, a value cannot add a header, and a header cannot replace
        /// one of ours.
        #[test]
        fn nothing_gets_past(headers in proptest::collection::hash_map(
            ".{0,20}|(?i)(webhook|ce|host|te)-?[a-z]{0,4}", "\\PC{0,10}|[\\x00-\\x1f]{0,3}", 0..6)
        ) {
            let Parsed { map, left_out, .. } = parse(&json!(headers).to_string());
            prop_assert!(map.len() + left_out.len() <= headers.len());
            for (name, value) in &map {
                prop_assert!(!is_denied(name.as_str()), "{}", name);
                prop_assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
            }
        }
    }
}
