//! `webhookd verify`: verifies the signature of a webhook, and says why it is not valid. Reads the
//! body from standard input.

use crate::{
    cli::{Tolerance, Verify},
    commands::{Error, exit, output::tell},
};
use signature::{Message, Rejected, Verifier};
use std::{
    io::Read,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

/// Maximum size of a body, in bytes.
const BODY_BYTES_MAX: u64 = 64 << 20;

/// Prints the result. The exit code is 0 if the signature is valid, and 1 if not.
///
/// # Errors
/// A secret, header or body that cannot be read.
pub fn run(flags: &Verify) -> Result<ExitCode, Error> {
    let verifier = Verifier::parse(flags.secret.trim())?;
    let headers = Headers::of(flags)?;
    let mut body = Vec::new();
    std::io::stdin().lock().take(BODY_BYTES_MAX).read_to_end(&mut body).map_err(Error::Input)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let verdict = verify(&verifier, &headers, &body, flags.tolerance, i64::try_from(now).unwrap_or(i64::MAX));
    tell(&match &verdict {
        Ok(()) => format!("valid\n{}", not_signed(&flags.headers)),
        Err(why) => format!("not valid: {why}\n"),
    })?;
    Ok(exit(verdict.is_ok()))
}

/// Returns a copied header line without the marks of curl, as name and value.
fn name_and_value(line: &str) -> Option<(&str, &str)> {
    // Also `< name: value`, as curl -v prints it.
    let (name, value) = line.trim_start_matches(['<', '>', ' ']).split_once(':')?;
    Some((name.trim(), value))
}

/// Names the copied headers that some formats use for members of the event, and that no signature
/// covers. Empty if there are none.
fn not_signed(lines: &[String]) -> String {
    let names = lines.iter().filter_map(|line| Some(name_and_value(line)?.0.to_ascii_lowercase()));
    let is_member = |name: &String| {
        let is_ours = name.starts_with("ce-") || name.starts_with("webhook-");
        is_ours && !["webhook-id", "webhook-timestamp", "webhook-signature"].contains(&name.as_str())
    };
    let names: Vec<String> = names.filter(is_member).collect();
    if names.is_empty() { String::new() } else { format!("not signed: {}\n", names.join(", ")) }
}

/// The three headers of a webhook.
#[derive(Debug, Default, PartialEq, Eq)]
struct Headers {
    id: String,
    timestamp: String,
    signature: String,
}

impl Headers {
    /// Reads them from their flags, or else from copied header lines.
    fn of(flags: &Verify) -> Result<Self, Error> {
        let header = |given: &Option<String>, name: &str| {
            let copied = || {
                flags.headers.iter().find_map(|line| {
                    let (found, value) = name_and_value(line)?;
                    found.eq_ignore_ascii_case(name).then(|| value.to_owned())
                })
            };
            given.clone().or_else(copied).map(|value| value.trim().to_owned()).ok_or_else(|| {
                let flag = name.trim_start_matches("webhook-");
                Error::Usage(format!("header {name} is missing; use --{flag}, or --header '{name}: …'"))
            })
        };
        Ok(Self {
            id: header(&flags.id, "webhook-id")?,
            timestamp: header(&flags.timestamp, "webhook-timestamp")?,
            signature: header(&flags.signature, "webhook-signature")?,
        })
    }
}

/// Verifies, and explains the usual reason of a failure.
fn verify(
    verifier: &Verifier,
    headers: &Headers,
    body: &[u8],
    tolerance: Tolerance,
    now: i64,
) -> Result<(), String> {
    let timestamp: i64 = headers.timestamp.parse().map_err(|_| Rejected::Timestamp.to_string())?;
    // With the timestamp as the clock, only the signature decides. The caller checks the age.
    let fits = |body: &[u8]| {
        let message = Message { id: &headers.id, timestamp, body };
        verifier.verify(&message, &headers.signature, timestamp).is_ok()
    };
    if !fits(body) {
        if let Some(shorter) = body.strip_suffix(b"\n")
            && (fits(shorter) || shorter.strip_suffix(b"\r").is_some_and(fits))
        {
            return Err(
                "the signature matches only without the newline at the end of the body; a file or a shell added it".into(),
            );
        }
        let version = verifier.version();
        return Err(if headers.signature.split(' ').any(|token| token.starts_with(version)) {
            "the signature does not match the secret, id, timestamp and body (the body must have exactly the received bytes)"
                .to_owned()
        } else {
            format!("the header has no signature of version {}", version.trim_end_matches(','))
        });
    }
    match (tolerance, now.saturating_sub(timestamp)) {
        (Tolerance::Seconds(limit), age) if age > limit.into() => {
            Err(format!("the signature is valid, but it is {age} s old (see --tolerance)"))
        }
        (Tolerance::Seconds(limit), age) if age < -i64::from(limit) => {
            Err(format!("the signature is valid, but its timestamp is {} s ahead of this clock", -age))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const TOKEN: &str = "v1,fhksJF5ElKjlPoT/jtefCO5XjQPvhf7Dhf/8R1ad9yU=";
    const AT: i64 = 1_700_000_000;

    fn headers(signature: &str) -> Headers {
        Headers { id: "msg_1".into(), timestamp: AT.to_string(), signature: signature.into() }
    }

    #[test]
    fn the_reason_is_told() {
        let secret = Verifier::parse(SECRET).unwrap();
        let check =
            |headers: Headers, body: &[u8], tolerance, now| verify(&secret, &headers, body, tolerance, now);
        let limit = Tolerance::Seconds(300);
        assert_eq!(check(headers(TOKEN), b"{}", limit, AT + 300), Ok(()));
        assert_eq!(check(headers(&format!("v1,AAAA {TOKEN}")), b"{}", limit, AT - 300), Ok(()));
        assert_eq!(check(headers(TOKEN), b"{}", Tolerance::Any, AT + 1_000_000), Ok(()));
        for (headers, body, now, want) in [
            (headers(TOKEN), &b"{}"[..], AT + 301, "301 s old"),
            (headers(TOKEN), b"{}", AT - 301, "301 s ahead"),
            (headers(TOKEN), b"{}\n", AT, "without the newline"),
            (headers(TOKEN), b"{}\r\n", AT, "without the newline"),
            (headers(TOKEN), b"{ }", AT, "does not match the secret, id, timestamp and body"),
            (headers(TOKEN), b"{ }\n", AT, "does not match the secret, id, timestamp and body"),
            (headers("v2,xyz"), b"{}", AT, "no signature of version v1"),
            (headers(""), b"{}", AT, "no signature of version v1"),
            (
                Headers { timestamp: "yesterday".into(), ..headers(TOKEN) },
                b"{}",
                AT,
                "not a number of seconds",
            ),
        ] {
            let why = check(headers, body, limit, now).unwrap_err();
            assert!(why.contains(want), "{want}: {why}");
        }
    }

    #[test]
    fn headers_without_a_signature_are_named() {
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let signed =
            ["webhook-id: msg_1", "< Webhook-Timestamp: 1", "webhook-signature: v1,x", "accept: */*"];
        assert_eq!(not_signed(&lines(&signed)), "");
        let copied = lines(&["< CE-Type: order.deleted", "webhook-id: msg_1", "webhook-key: 17"]);
        assert_eq!(not_signed(&copied), "not signed: ce-type, webhook-key\n");
    }

    #[test]
    fn headers_may_be_copied_as_they_are() {
        let parse = |args: &[&str]| {
            let line = ["webhookd", "verify", "--secret", SECRET].into_iter().chain(args.iter().copied());
            let Command::Verify(flags) = Cli::parse_from(line).command else { unreachable!() };
            Headers::of(&flags)
        };
        let id = "Webhook-Id:  msg_1 ";
        let copied = [
            "--header",
            id,
            "--header",
            "< webhook-timestamp: 1700000000",
            "--header",
            "content-type: application/json",
        ];
        let signature = format!("webhook-signature: {TOKEN}");
        let whole = parse(&[&copied[..], &["--header", &signature]].concat()).unwrap();
        assert_eq!(whole, headers(TOKEN));
        assert_eq!(parse(&[&copied[..], &["--signature", TOKEN]].concat()).unwrap(), whole);
        let missing = parse(&copied).unwrap_err();
        assert!(missing.to_string().contains("header webhook-signature is missing"), "{missing}");
        assert_eq!(missing.exit_code(), 2);
    }
}
