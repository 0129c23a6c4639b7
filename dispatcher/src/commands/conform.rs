//! `webhookd conform`: tests a receiver with good and bad requests, and reports the results. Sends
//! requests to one address only.

use crate::{
    cli::Conform,
    commands::{
        Error,
        client::{ApiResponse, Call, Client, Failure},
        exit,
        output::tell,
        terminal::clean,
    },
};
use bytes::Bytes;
use hyper::Method;
use serde_json::json;
use signature::Secret;
use std::{
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A receiver should answer before its work is done.
const PROMPT: Duration = Duration::from_secs(5);
/// Time between the halves of a slow body.
const SLOW: Duration = Duration::from_secs(2);
/// Age that a receiver should reject, in seconds.
const TOO_OLD: i64 = 600;

/// The answer that a receiver should give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// 2xx.
    Take,
    /// 4xx, except 408, 410 and 429, which ask the sender for something.
    Refuse,
}

/// One request and its purpose.
struct Case {
    name: &'static str,
    expected: Expected,
    /// What happens to the receiver if it answers differently.
    advice: &'static str,
    call: Call,
}

/// Sends all requests, one after the other. The exit code is 1 if an answer was wrong.
///
/// # Errors
/// An invalid address or secret.
pub async fn run(flags: &Conform) -> Result<ExitCode, Error> {
    let client = Client::new(&flags.url, Duration::from_millis(flags.timeout_ms)).map_err(Error::Usage)?;
    let secret =
        Secret::parse(flags.secret.trim()).map_err(|why| Error::Usage(format!("--secret: {why}")))?;
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
    let run_id = i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX);
    let (mut right, mut wrong) = (0, 0);
    for case in cases(&secret, run_id, now) {
        let answer = client.send(case.call).await;
        let fault = fault(case.expected, &answer);
        if fault.is_none() {
            right += 1
        } else {
            wrong += 1
        };
        tell(&if flags.output.json {
            let told = json!({"case": case.name, "ok": fault.is_none(), "status": answer.as_ref().ok().map(|a| a.status),
                "duration_ms": answer.as_ref().ok().map(|a| a.elapsed.as_secs_f64() * 1000.0),
                "fault": fault, "advice": fault.as_ref().map(|_| case.advice)});
            format!("{told}\n")
        } else {
            match &fault {
                None => format!("✓ {}\n", case.name),
                Some(fault) => format!("✗ {}: {}\n    {}\n", case.name, clean(fault), case.advice),
            }
        })?;
    }
    if !flags.output.json {
        tell(&format!("{right} right, {wrong} wrong\n"))?;
    }
    Ok(exit(wrong == 0))
}

/// Returns what is wrong with an answer.
fn fault(expected: Expected, answer: &Result<ApiResponse, Failure>) -> Option<String> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(failure) => return Some(failure.to_string()),
    };
    let fits = match expected {
        Expected::Take => (200..300).contains(&answer.status),
        Expected::Refuse => (400..500).contains(&answer.status) && ![408, 410, 429].contains(&answer.status),
    };
    let wanted = if expected == Expected::Take { "2xx" } else { "4xx" };
    if !fits {
        Some(format!("answered {}, expected {wanted}", answer.status))
    } else if answer.elapsed > PROMPT {
        Some(format!(
            "answered after {:.1} s, expected less than {} s",
            answer.elapsed.as_secs_f64(),
            PROMPT.as_secs()
        ))
    } else {
        None
    }
}

/// An event of this run. The same number is the same event.
struct Sample<'a> {
    secret: &'a Secret,
    run_id: i64,
    now: i64,
}

impl Sample<'_> {
    fn id(&self, number: i64) -> String {
        format!("evt_{:014x}{number:x}", self.run_id)
    }

    fn body(&self, number: i64, more: &str) -> Bytes {
        format!(
            r#"{{"id":"{}","type":"conformance.checked","timestamp":"2026-11-22T03:38:00.123456Z","sequence":{number},"table":"public.conformance","data":{{"id":{number},"total":12345678901234567890.50,"name":"Zoë 🚀 \"\\"}}{more}}}"#,
            self.id(number)
        )
        .into()
    }

    /// Returns a correctly signed request.
    fn call(&self, number: i64, body: Bytes) -> Call {
        self.call_at(number, self.now, body)
    }

    fn call_at(&self, number: i64, timestamp: i64, body: Bytes) -> Call {
        let id = self.id(number);
        let signature = signature::sign(self.secret, &id, timestamp, &body);
        signed(id, timestamp, signature, body)
    }
}

fn signed(id: String, timestamp: i64, signature: String, body: Bytes) -> Call {
    let headers = vec![
        ("content-type", "application/json".to_owned()),
        ("webhook-id", id),
        ("webhook-timestamp", timestamp.to_string()),
        ("webhook-signature", signature),
    ];
    Call { method: Method::POST, headers, body, pause: Duration::ZERO }
}

fn without(mut call: Call, header: &str) -> Call {
    call.headers.retain(|(name, _)| *name != header);
    call
}

fn cases(secret: &Secret, run_id: i64, now: i64) -> Vec<Case> {
    use Expected::{Refuse, Take};
    const GENUINE: &str =
        "Answer genuine webhooks with 2xx. Otherwise webhookd retries them, and finally gives up.";
    const FORGED: &str = "Anyone who knows the URL can send this request. Verify the signature of every request, over the raw body.";
    const REPLAYED: &str = "Anyone who has seen a request can send it again. Reject timestamps that differ by more than five minutes.";
    let sample = Sample { secret, run_id, now };
    let plain = |number| sample.body(number, "");
    let case = |name, expected, advice, call| Case { name, expected, advice, call };
    let mut other_key = sample.call(10, plain(10));
    let wrong = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    if let Some((_, signature)) = other_key.headers.last_mut() {
        *signature = wrong.to_owned();
    }
    let mut tampered = sample.call(11, plain(11));
    tampered.body = plain(12);
    let mut rotated = sample.call(13, plain(13));
    if let Some((_, signature)) = rotated.headers.last_mut() {
        *signature = format!("{wrong} {signature}");
    }
    let other_id = Call { headers: sample.call(15, plain(14)).headers, ..sample.call(14, plain(14)) };
    let moved = {
        let mut call = other_id;
        call.headers[1].1 = sample.id(14);
        call
    };
    let large = sample.body(16, &format!(r#","note":"{}""#, "x".repeat(256 * 1024)));
    vec![
        case("a genuine webhook", Take, GENUINE, sample.call(2, plain(2))),
        case(
            "the same webhook again",
            Take,
            "Webhooks can be repeated: answer 2xx, and process each webhook-id once.",
            sample.call(2, plain(2)),
        ),
        case(
            "an earlier event after a later one",
            Take,
            "Events can arrive in another order, unless the subscription sets ordering: answer 2xx, and compare sequence.",
            sample.call(1, plain(1)),
        ),
        case(
            "unknown members",
            Take,
            "New members can be added: ignore unknown members.",
            sample.call(3, sample.body(3, r#","unheard_of":{"a":[null]}"#)),
        ),
        case(
            "two signatures, of which the second is valid",
            Take,
            "During a rotation, each secret signs: accept the webhook if one signature is valid.",
            rotated,
        ),
        case("a body of 256 KiB", Take, GENUINE, sample.call(16, large)),
        case("a body that arrives slowly", Take, GENUINE, Call { pause: SLOW, ..sample.call(4, plain(4)) }),
        case("a wrong signature", Refuse, FORGED, other_key),
        case("a body that was changed in transit", Refuse, FORGED, tampered),
        case("the signature of another webhook-id", Refuse, FORGED, moved),
        case("no signature", Refuse, FORGED, without(sample.call(17, plain(17)), "webhook-signature")),
        case("no timestamp", Refuse, FORGED, without(sample.call(18, plain(18)), "webhook-timestamp")),
        case("no webhook-id", Refuse, FORGED, without(sample.call(19, plain(19)), "webhook-id")),
        case("ten minutes old", Refuse, REPLAYED, sample.call_at(20, now - TOO_OLD, plain(20))),
        case("ten minutes ahead", Refuse, REPLAYED, sample.call_at(21, now + TOO_OLD, plain(21))),
        case(
            "a GET",
            Refuse,
            "Webhooks are POST requests: reject other methods.",
            Call {
                method: Method::GET,
                body: Bytes::new(),
                ..without(sample.call(22, Bytes::new()), "content-type")
            },
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_body_is_json_and_every_genuine_signature_holds() {
        const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let (secret, now) = (Secret::parse(SECRET).unwrap(), 1_795_318_680);
        let verifier = standardwebhooks::Webhook::new(SECRET).unwrap();
        for case in cases(&secret, 1_795_318_680_123_456, now) {
            let header = |name: &str| {
                case.call.headers.iter().find(|(found, _)| *found == name).map(|(_, value)| value.as_str())
            };
            assert!(
                case.call.method == Method::GET
                    || serde_json::from_slice::<serde_json::Value>(&case.call.body).is_ok(),
                "{}",
                case.name
            );
            if case.expected == Expected::Take {
                let (id, at) = (header("webhook-id").unwrap(), header("webhook-timestamp").unwrap());
                let genuine = verifier.sign(id, at.parse().unwrap(), &case.call.body).unwrap();
                assert!(
                    header("webhook-signature").unwrap().split(' ').any(|token| token == genuine),
                    "{}",
                    case.name
                );
            }
        }
    }

    #[test]
    fn answers_are_judged() {
        let answer = |status, ms| Ok(ApiResponse { status, elapsed: Duration::from_millis(ms) });
        assert_eq!(fault(Expected::Take, &answer(204, 10)), None);
        assert_eq!(fault(Expected::Refuse, &answer(401, 10)), None);
        for (expected, status) in [
            (Expected::Take, 302),
            (Expected::Take, 500),
            (Expected::Refuse, 200),
            (Expected::Refuse, 500),
            (Expected::Refuse, 410),
        ] {
            assert!(fault(expected, &answer(status, 10)).is_some(), "{status}");
        }
        assert!(fault(Expected::Take, &answer(200, 6000)).unwrap().contains("6.0 s"));
    }
}
