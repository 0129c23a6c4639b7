//! Validates the options of a subscription, each by itself, before the constraints of the table do.
//! Pure, except for arithmetic with numeric.

use crate::error::Error;
use event_type::Pattern;
use pgrx::datum::{AnyNumeric, Interval};
use serde_json::Value;
use signature::Profiles;
use std::fmt::Write as _;
use subscription_options::{Kind, SubscriptionOption};
use url::Url;

/// Maximum length of a URL, in bytes, as given and as stored.
pub const URL_BYTES_MAX: usize = 2048;
/// Maximum number of patterns of one subscription.
pub const EVENTS_MAX: usize = 1000;
/// Maximum length of a name, in characters.
pub const NAME_CHARS_MAX: usize = 200;
/// Maximum number of waits in a retry schedule.
pub const RETRY_STEPS_MAX: usize = 50;
/// Longest wait between two attempts, in days.
pub const RETRY_STEP_DAYS_MAX: i64 = 7;
/// Maximum number of request headers of one subscription.
pub const HEADERS_MAX: usize = 20;
/// Maximum number of origins that one subscription excludes.
pub const ORIGINS_MAX: usize = 100;
/// Longest overlap of an old secret with the new one, in days.
pub const OVERLAP_DAYS_MAX: i64 = 7;

const SECOND_US: i128 = 1_000_000;
const DAY_US: i128 = 86_400 * SECOND_US;

fn bad(option: &'static str, reason: impl Into<String>, hint: &'static str) -> Error {
    Error::BadOption { option, reason: reason.into(), hint }
}

fn bad_option(option: &SubscriptionOption, reason: impl Into<String>) -> Error {
    bad(option.name, reason, option.hint)
}

/// Validates a whole number by the limits of its option.
///
/// # Errors
/// Names the range.
pub fn integer(option: &SubscriptionOption, count: i32) -> Result<i32, Error> {
    match option.kind {
        Kind::Integer { min, max } if !(min..=max).contains(&count) => {
            Err(bad_option(option, format!("must be between {min} and {max}")))
        }
        _ => Ok(count),
    }
}

/// Validates a JSON object by the limit of its option.
///
/// # Errors
/// Names the limit.
pub fn json(option: &SubscriptionOption, json: Value) -> Result<Value, Error> {
    match option.kind {
        Kind::Json { .. } if !json.is_object() => Err(bad_option(option, "must be a JSON object".to_owned())),
        Kind::Json { max } if json.to_string().len() > max => {
            Err(bad_option(option, format!("must have at most {max} bytes")))
        }
        _ => Ok(json),
    }
}

/// Validates a word by the list of its option.
///
/// # Errors
/// Lists the words.
pub fn word(option: &SubscriptionOption, word: String) -> Result<String, Error> {
    match option.kind {
        Kind::Word(words) if !words.contains(&word.as_str()) => {
            Err(bad_option(option, format!("\"{word}\" is not one of {}", words.join(", "))))
        }
        _ => Ok(word),
    }
}

/// Validates a text by the limits of its option.
///
/// # Errors
/// Names the limit.
pub fn text(option: &SubscriptionOption, text: String) -> Result<String, Error> {
    match option.kind {
        Kind::Text { max } if text.chars().count() > max as usize => {
            Err(bad_option(option, format!("must have at most {max} characters")))
        }
        _ => Ok(text),
    }
}

/// Validates a list of texts by the limits of its option.
///
/// # Errors
/// Names the limits, or a text is null.
pub fn texts(option: &SubscriptionOption, texts: Vec<Option<String>>) -> Result<Vec<String>, Error> {
    if let Kind::Texts { min, max } = option.kind
        && !(min as usize..=max as usize).contains(&texts.len())
    {
        return Err(bad_option(option, format!("must have {min} to {max} elements")));
    }
    texts.into_iter().map(|text| text.ok_or_else(|| bad_option(option, "must not contain a null"))).collect()
}

/// Validates a URL, and returns it in the normal form of the WHATWG URL standard, which the daemon
/// will call. In this form, an uppercase host, a default port or a non-ASCII letter has only one
/// spelling.
///
/// # Errors
/// Names the broken rule and never the URL, which may contain a password.
pub fn url(text: &str) -> Result<String, Error> {
    const HINT: &str = "Pass an absolute URL such as 'https://example.com/hooks'.";
    let no = |reason: &str| Err(bad("url", reason, HINT));
    if text.len() > URL_BYTES_MAX {
        return no("must have at most 2048 bytes");
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
        return no("must not contain white space, control characters or backslashes");
    }
    // Url::parse accepts `https:example.com` and `https:///example.com`, which are always mistakes.
    let Some((scheme, rest)) = text.split_once("://") else {
        return no("must be an absolute http or https URL");
    };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return no("the scheme must be http or https");
    }
    if rest.is_empty() || rest.starts_with(['/', '?', '#', ':']) {
        return no("must have a host");
    }
    let url = Url::parse(text).map_err(|why| bad("url", why.to_string(), HINT))?;
    if !url.username().is_empty() || url.password().is_some() || authority(rest).contains('@') {
        let hint =
            "Everyone who can see the subscription can see its URL. Receivers verify a signature instead.";
        return Err(bad("url", "must not contain credentials", hint));
    }
    if url.fragment().is_some() {
        return no("must not have a fragment, because fragments are not sent");
    }
    if url.host_str().is_none_or(str::is_empty) {
        return no("must have a host");
    }
    if url.port() == Some(0) {
        return no("must not have port 0");
    }
    let url = String::from(url);
    if url.len() > URL_BYTES_MAX { no("must have at most 2048 bytes after encoding") } else { Ok(url) }
}

fn authority(rest: &str) -> &str {
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

/// Validates a list of patterns.
///
/// # Errors
/// Names the first invalid pattern, or the count.
pub fn events(patterns: Vec<Option<String>>) -> Result<Vec<String>, Error> {
    const HINT: &str = "Pass patterns such as '{order.created,invoice.*}'. '{*}' matches every event.";
    if patterns.is_empty() || patterns.len() > EVENTS_MAX {
        return Err(bad("events", "must have 1 to 1000 patterns", HINT));
    }
    patterns
        .into_iter()
        .map(|pattern| {
            let pattern = pattern.ok_or_else(|| bad("events", "must not contain a null", HINT))?;
            Pattern::parse(&pattern).map_err(|why| bad("events", format!("\"{pattern}\": {why}"), HINT))?;
            Ok(pattern)
        })
        .collect()
}

/// Validates a name.
///
/// # Errors
/// The name is blank, has over 200 characters, or contains control characters.
pub fn name(name: String) -> Result<String, Error> {
    const HINT: &str = "Pass 1 to 200 characters, as in 'billing'.";
    if name.trim().is_empty() {
        return Err(bad("name", "must not be blank", HINT));
    }
    if name.chars().count() > NAME_CHARS_MAX {
        return Err(bad("name", "must have at most 200 characters", HINT));
    }
    if name.chars().any(char::is_control) {
        return Err(bad("name", "must not contain control characters", HINT));
    }
    Ok(name)
}

/// Returns an interval in microseconds. Months have no fixed length, so they are rejected. Infinity
/// has months.
fn microseconds(option: &'static str, interval: &Interval) -> Result<i128, Error> {
    if interval.months() != 0 {
        return Err(bad(
            option,
            "must not contain months or years, which have no fixed length",
            "Use days or smaller units.",
        ));
    }
    Ok(i128::from(interval.days()) * DAY_US + i128::from(interval.micros()))
}

/// Validates the time limit of one attempt: 1 ms to 5 min.
///
/// # Errors
/// Names the range.
pub fn timeout(interval: Interval) -> Result<Interval, Error> {
    match microseconds("timeout", &interval)? {
        1_000..=300_000_000 => Ok(interval),
        _ => {
            Err(bad("timeout", "must be between 1 millisecond and 5 minutes", "The default is '15 seconds'."))
        }
    }
}

/// Validates a retry schedule: at most 50 waits, each from 0 to 7 days. An empty schedule means a
/// single attempt.
///
/// # Errors
/// Names the step that is out of range, counted from 1.
pub fn retry(steps: Vec<Option<Interval>>) -> Result<Vec<Interval>, Error> {
    const HINT: &str = "Pass the time to wait after the 1st, 2nd, ... failed attempt, as in '{5s,5min,1h}'.";
    if steps.len() > RETRY_STEPS_MAX {
        return Err(bad("retry", "must have at most 50 steps", HINT));
    }
    let mut waits = Vec::with_capacity(steps.len());
    for (i, step) in steps.into_iter().enumerate() {
        let mut reason = format!("step {} ", i + 1);
        let Some(step) = step else {
            reason.push_str("is null");
            return Err(bad("retry", reason, HINT));
        };
        let wait = microseconds("retry", &step)?;
        if !(0..=i128::from(RETRY_STEP_DAYS_MAX) * DAY_US).contains(&wait) {
            let _ = write!(reason, "must be between 0 and {RETRY_STEP_DAYS_MAX} days");
            return Err(bad("retry", reason, HINT));
        }
        waits.push(step);
    }
    Ok(waits)
}

/// Validates how long old secrets sign together with a new one: 0 to 7 days.
///
/// # Errors
/// Names the range.
pub fn overlap(interval: Interval) -> Result<Interval, Error> {
    let us = microseconds("overlap", &interval)?;
    if (0..=i128::from(OVERLAP_DAYS_MAX) * DAY_US).contains(&us) {
        Ok(interval)
    } else {
        Err(bad("overlap", "must be between 0 and 7 days", "The default is '24 hours'."))
    }
}

/// Validates additional request headers: an object of texts.
///
/// # Errors
/// Names the header and the rule, and never the value, which may be a password.
pub fn headers(headers: Value) -> Result<Value, Error> {
    const HINT: &str = "Pass an object such as '{\"authorization\": \"Bearer ...\"}'. Headers that describe the request itself cannot be set.";
    let no = |reason: String| Err(bad("headers", reason, HINT));
    let Value::Object(object) = &headers else {
        return no("must be a JSON object".to_owned());
    };
    if object.len() > HEADERS_MAX {
        return no(format!("must have at most {HEADERS_MAX} headers"));
    }
    let mut seen: Vec<String> = Vec::with_capacity(object.len());
    for (name, value) in object {
        if let Err(why) = request_header::check_name(name) {
            return no(format!("\"{}\": {why}", shown(name)));
        }
        let lower = name.to_ascii_lowercase();
        if seen.contains(&lower) {
            return no(format!("\"{name}\" is given twice, in different case"));
        }
        seen.push(lower);
        let Value::String(value) = value else {
            return no(format!("\"{name}\": the value must be a string"));
        };
        if let Err(why) = request_header::check_value(value) {
            return no(format!("\"{name}\": {why}"));
        }
    }
    Ok(headers)
}

/// Returns a text for a message, without control characters and not too long.
fn shown(text: &str) -> String {
    text.chars().take(100).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Validates the number of requests a second: from one a day to 100 000 a second.
///
/// # Errors
/// Names the range.
pub fn rate_limit(per_second: AnyNumeric) -> Result<AnyNumeric, Error> {
    let least = AnyNumeric::from(1) / AnyNumeric::from(86_400);
    if !per_second.is_nan() && per_second >= least && per_second <= AnyNumeric::from(100_000) {
        Ok(per_second)
    } else {
        Err(bad(
            "rate_limit",
            "must be between 1/86400 (one a day) and 100000 requests a second",
            "Omit rate_limit to send without a limit. Use webhook_alter(..., clear => '{rate_limit}') to remove a limit.",
        ))
    }
}

/// Validates how long an event may wait for others: 0 to 1 min.
///
/// # Errors
/// Names the range.
pub fn batch_window(interval: Interval) -> Result<Interval, Error> {
    match microseconds("batch_window", &interval)? {
        0..=60_000_000 => Ok(interval),
        _ => Err(bad(
            "batch_window",
            "must be between 0 and 1 minute",
            "The default is '0': a request does not wait for more events.",
        )),
    }
}

/// Validates names of origins.
///
/// # Errors
/// A name is null or blank, or there are more than 100.
pub fn exclude_origin(origins: Vec<Option<String>>) -> Result<Vec<String>, Error> {
    const HINT: &str = "Pass the value that the other system sets webhook.origin to, as in '{crm}'.";
    if origins.len() > ORIGINS_MAX {
        return Err(bad("exclude_origin", "must have at most 100 origins", HINT));
    }
    origins
        .into_iter()
        .map(|origin| match origin {
            None => Err(bad("exclude_origin", "must not contain a null", HINT)),
            Some(origin) if origin.trim().is_empty() => {
                Err(bad("exclude_origin", "must not contain a blank origin", HINT))
            }
            Some(origin) => Ok(origin),
        })
        .collect()
}

/// Validates the signature profiles.
///
/// # Errors
/// Names the unknown word, or the broken rule.
pub fn signature(words: Vec<Option<String>>) -> Result<(Profiles, Vec<String>), Error> {
    const HINT: &str = "Pass one or more of '{standard,standard-v1a,svix,github,stripe}', or '{none}' for unsigned requests.";
    let words = words.into_iter().collect::<Option<Vec<_>>>();
    let words = words.ok_or_else(|| bad("signature", "must not contain a null", HINT))?;
    let profiles = Profiles::parse(words.iter().map(String::as_str))
        .map_err(|why| bad("signature", shown(&why.to_string()), HINT))?;
    Ok((profiles, profiles.iter().map(|profile| profile.as_str().to_owned()).collect()))
}

/// Validates the names of options to lock, and returns each once, in order.
///
/// # Errors
/// Names the word that is not such an option.
pub fn locked(words: Vec<Option<String>>) -> Result<Vec<String>, Error> {
    const HINT: &str = "Pass a list of url, events and filter, such as '{filter}'.";
    let mut options = Vec::new();
    for word in words {
        let word = word.ok_or_else(|| bad("locked", "must not contain a null", HINT))?;
        if !["url", "events", "filter"].contains(&word.as_str()) {
            return Err(bad("locked", format!("\"{}\" cannot be locked", shown(&word)), HINT));
        }
        options.push(word);
    }
    options.sort_unstable();
    options.dedup();
    Ok(options)
}

/// Validates the name of a set of certificates: 1 to 63 letters, digits, `_` or `-`.
///
/// # Errors
/// Names the rule.
pub fn tls(name: String) -> Result<String, Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=63).contains(&name.len()) && name.bytes().all(allowed) {
        Ok(name)
    } else {
        Err(bad(
            "tls",
            "must have 1 to 63 letters, digits, _ or -",
            "Pass the NAME of a section [tls.NAME] in the configuration of webhookd.",
        ))
    }
}
