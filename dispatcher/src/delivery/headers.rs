//! The further request headers of a subscription: which are taken, and which are not. Pure.
//!
//! `webhook_subscribe()` has refused the same names before; what is left out here was written past it.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

/// Names that say how the request travels, who sends it, or what is in it.
const DENIED: [&str; 21] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "origin",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
];

/// Families of names: our own, those of the norms in use, and those that proxies and clouds trust.
const DENIED_PREFIXES: [&str; 13] = [
    "webhook-",
    "ce-",
    "svix-",
    "x-svix-",
    "proxy-",
    "sec-",
    "x-forwarded-",
    "x-amz-",
    "x-google-",
    "x-goog-",
    "x-gfe-",
    "x-azure-",
    "x-fd-",
];

/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 4096;

/// Why a header is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    pub name: String,
    pub why: &'static str,
}

/// Whether a name, in lower case, is one that subscriptions may not set.
pub fn is_denied(name: &str) -> bool {
    DENIED.contains(&name) || DENIED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The headers of `webhook.subscription.headers`, an object of texts; what may not be sent is told instead.
pub fn parse(headers: &Value) -> (HeaderMap, Vec<LeftOut>) {
    let (mut map, mut left_out) = (HeaderMap::new(), Vec::new());
    for (name, value) in headers.as_object().into_iter().flatten() {
        match header(name, value) {
            Ok((name, value)) => drop(map.insert(name, value)),
            Err(why) => left_out.push(LeftOut { name: name.clone(), why }),
        }
    }
    (map, left_out)
}

fn header(name: &str, value: &Value) -> Result<(HeaderName, HeaderValue), &'static str> {
    let name = HeaderName::try_from(name).map_err(|_| "it is no header name")?;
    if is_denied(name.as_str()) {
        return Err("the name is reserved");
    }
    let text = value.as_str().ok_or("its value is no text")?;
    if text.len() > VALUE_BYTES_MAX {
        return Err("its value is longer than 4096 bytes");
    }
    let mut value = HeaderValue::from_str(text).map_err(|_| "its value has a control character")?;
    // It may be a password: no Debug shows it.
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn what_is_allowed_is_sent_and_the_rest_is_named() {
        let long = "x".repeat(VALUE_BYTES_MAX + 1);
        let (map, left_out) = parse(&json!({
            "Authorization": "Bearer hunter2", "X-Api-Key": "", "x-tenant": "Zoë",
            "Host": "evil", "WEBHOOK-ID": "evt_0", "ce-type": "x", "Content-Type": "text/plain", "X-Forwarded-For": "::1",
            "a b": "x", "": "x", "x-crlf": "a\r\nhost: evil", "x-nul": "\u{0}", "x-long": long, "x-number": 1, "x-null": null,
        }));
        let sent: Vec<_> = map.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(
            sent,
            [("authorization", &b"Bearer hunter2"[..]), ("x-api-key", b""), ("x-tenant", "Zoë".as_bytes())]
        );
        assert!(!format!("{map:?}").contains("hunter2"));
        let mut names: Vec<_> = left_out.iter().map(|out| out.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
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
                "x-number"
            ]
        );
    }

    #[test]
    fn what_is_no_object_has_no_headers() {
        for value in [json!(null), json!([]), json!("host")] {
            assert_eq!(parse(&value), (HeaderMap::new(), Vec::new()));
        }
    }

    proptest! {
        /// Whatever stands in the table, no line of it can pass for another header, and none of ours is replaced.
        #[test]
        fn nothing_gets_past(headers in proptest::collection::hash_map(".{0,20}|(?i)(webhook|ce|host|te)-?[a-z]{0,4}", "\\PC{0,10}|[\\x00-\\x1f]{0,3}", 0..6)) {
            let (map, left_out) = parse(&json!(headers));
            prop_assert!(map.len() + left_out.len() <= headers.len());
            for (name, value) in &map {
                prop_assert!(!is_denied(name.as_str()), "{}", name);
                prop_assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
            }
        }
    }
}
