//! Texts that are parsed in memory.

use crate::text;
use delivery::{
    body::{Source, render},
    event::Event,
    headers as subscription_headers,
    outcome::{RETRY_AFTER_MAX, retry_after as parse_retry_after},
    shape::{Format, PayloadMode, Shape},
    snapshot::Snapshot,
};
use event_type::Pattern;
use path_filter::{Document, PathFilter, Subject};
use seal::{KeyRing, PrivateKey, Purpose};
use sender::{
    address_policy::{AddressPolicy, Ports},
    host_pattern::HostPattern,
    proxy::Proxy,
};
use serde_json::Value;
use signature::{Key, Message, Verifier};
use source::secret_store::SecretStore;
use std::{
    net::IpAddr,
    sync::OnceLock,
    time::{Duration, SystemTime},
};
use url::{Host, Url};
use webhookd::config::Layers;

/// Checks that `Retry-After` is bounded, with any value.
pub fn retry_after(bytes: &[u8]) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    if let Some(wait) = parse_retry_after(bytes, now) {
        assert!(wait <= RETRY_AFTER_MAX);
    }
}

/// Checks an event type and a pattern, separated by a line break: the pattern matches the right
/// types.
pub fn pattern(bytes: &[u8]) {
    let Some((pattern, name)) = text(bytes).and_then(|text| text.split_once('\n')) else { return };
    let is_type = event_type::check_type(name).is_ok();
    if let Ok(parsed) = Pattern::parse(pattern) {
        let matches = parsed.matches(name);
        if is_type {
            let want = match pattern {
                "*" => !event_type::is_reserved(name),
                other if other.ends_with(".*") => name.starts_with(&other[..other.len() - 1]),
                exact => exact == name,
            };
            assert_eq!(matches, want, "{pattern} {name}");
        }
    }
    for prefix in event_type::prefixes(name) {
        assert!(name.starts_with(prefix));
    }
}

/// Parses a filter and evaluates it on a payload, separated by a line break. The negation of a
/// condition never holds together with the condition.
pub fn filter(bytes: &[u8]) {
    let Some((filter, payload)) = text(bytes).and_then(|text| text.split_once('\n')) else { return };
    let Some(parsed) = PathFilter::parse(filter) else { return };
    let subject = Subject { event_type: "order.created", data: payload.as_bytes(), ..Subject::default() };
    let matches = |filter: &PathFilter| filter.matches(&Document::new(subject));
    assert_eq!(matches(&parsed), matches(&parsed), "{filter} {payload}");
    if let Some(negated) = PathFilter::parse(&format!("!({filter})")) {
        let both = matches(&parsed) == Some(true) && matches(&negated) == Some(true);
        assert!(!both, "{filter} {payload}");
    }
}

/// Checks a snapshot in Postgres's format: parsing and printing return the same text.
pub fn snapshot(bytes: &[u8]) {
    let Some(snapshot) = text(bytes).and_then(|text| text.parse::<Snapshot>().ok()) else { return };
    assert!(snapshot.xmin() <= snapshot.xmax());
    assert!(snapshot.running().iter().all(|xid| !snapshot.sees(*xid)));
    assert_eq!(snapshot.to_string().parse::<Snapshot>().ok().as_ref(), Some(&snapshot));
}

/// Checks the configuration file: it is parsed, or the error has a line.
pub fn config(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Err((line, problem)) = Layers::parse(text) {
        assert!(
            line >= 1 && line <= text.lines().count().max(1) + 1 && !problem.contains('\n'),
            "{line} {problem}"
        );
    }
}

/// Checks keys of signatures: a parsed key prints the same text, and verifies its own signatures.
pub fn secret(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let store = SecretStore::default();
    if let Ok(key) = Key::parse(text) {
        assert_eq!(key.reveal(), text);
        let token = key.signer().sign("evt_1", 1, bytes);
        let verifier = Verifier::parse(text).expect("what signs verifies");
        assert_eq!(verifier.verify(&Message { id: "evt_1", timestamp: 1, body: bytes }, &token, 1), Ok(()));
        assert_eq!(store.resolve(1, text), Ok(key));
    } else if let Err(error) = store.resolve(1, text) {
        let shown = format!("{error} {error:?}");
        // The name of a variable is not a secret. The error must repeat nothing else of the text,
        // unless the text is a part of the usual message.
        let is_usual =
            store.resolve(1, "hunter2").is_err_and(|usual| format!("{usual} {usual:?}").contains(text));
        let is_repeated = shown.contains(text) && !is_usual;
        assert!(text.len() < 24 || text.starts_with("env:") || !is_repeated, "{shown}");
    }
    if let Ok(verifier) = Verifier::parse(text) {
        let _ = verifier.verify(&Message { id: text, timestamp: 1, body: bytes }, text, 1);
    }
}

/// Checks sealed texts: the key opens only the text that was sealed for it.
pub fn sealed(bytes: &[u8]) {
    const KEY: &str = "webhookd_private_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8XqsIW";
    const GENUINE: &str = "sealed:v1:eedd883da0a94515:yc+Xph+CE1JEKj1ibDT3cCmdWMJIxw9qDxR4RxXQOn8UFMU5mLb6g1I2fAg9Vpjw/seGYMUNAy7WAlK9Pg9etS5f23321O6cEElBq263/2/+/MpEAyH4TsXF2bxMlWYrbjw=";
    static RING: OnceLock<KeyRing> = OnceLock::new();
    let ring = RING.get_or_init(|| KeyRing::parse(KEY).expect("a key"));
    let Some(text) = text(bytes) else { return };
    let opened = ring.open(Purpose::SecretOf(42), text);
    assert_eq!(opened.is_ok(), text == GENUINE, "{text}");
    let _ = (KeyRing::parse(text), PrivateKey::parse(text), seal::PublicKey::parse(text));
}

/// Checks destinations of operators and subscribers: a private address is never allowed.
pub fn target(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let _ = (Proxy::parse(text), Ports::parse([text]));
    let Ok(url) = Url::parse(text) else { return };
    // The URL standard does not normalize the hosts of other schemes, and the daemon does not call
    // them.
    if !matches!(url.scheme(), "http" | "https") {
        return;
    }
    let literal = match url.host() {
        Some(Host::Ipv4(v4)) => IpAddr::V4(v4),
        Some(Host::Ipv6(v6)) => IpAddr::V6(v6),
        Some(Host::Domain(name)) => {
            if let Ok(pattern) = HostPattern::parse(name) {
                assert!(
                    pattern.matches(&Host::Domain(name.to_owned())) || name.starts_with(['.', '*']),
                    "{name}"
                );
            }
            return;
        }
        None => return,
    };
    let is_local = match literal.to_canonical() {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    };
    let verdict = AddressPolicy::default().check(&[literal], true);
    assert!(!is_local || verdict.is_err(), "{literal}");
}

/// Checks headers of a subscription: no reserved names, no line breaks.
pub fn headers(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let map = subscription_headers::parse(text).map;
    for (name, value) in &map {
        assert!(!request_header::is_denied(name.as_str()), "{name}");
        assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{name}");
    }
}

/// Renders a row's JSON (first line) and its former values (second line) in every shape.
pub fn body(bytes: &[u8]) {
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    let (payload, previous) = (lines.next().unwrap_or_default(), lines.next());
    let is_json = |bytes: &&[u8]| serde_json::from_slice::<Value>(bytes).is_ok();
    // Postgres has checked both.
    if !is_json(&payload) || !previous.iter().all(is_json) {
        return;
    }
    let event = Event {
        id: 1,
        slot: 0,
        xid: 1,
        created_at_us: 1_700_000_000_000_000,
        subscription_id: None,
        truncated: false,
        event_type: "order.updated".into(),
        table_name: Some("public.orders".into()),
        key: text(payload).map(Into::into),
        actor: previous.and_then(text).map(Into::into),
        origin: None,
        traceparent: None,
        payload: payload.to_vec().into(),
        previous: previous.map(|previous| previous.to_vec().into()),
        owner: None,
        order_key: None,
        replaced: bytes.len().is_multiple_of(2),
    };
    let source = Source::of_database("shop");
    for format in Format::ALL {
        for payload_mode in PayloadMode::ALL {
            let rendered = render(&event, 1, Shape { format, payload_mode }, &source);
            assert!(!rendered.body.is_empty() && str::from_utf8(&rendered.body).is_ok());
            if format != Format::Form {
                serde_json::from_slice::<Value>(&rendered.body).expect("a body is JSON");
            }
        }
    }
}
