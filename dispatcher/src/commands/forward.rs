//! `webhookd listen --forward-to`: sends the events of a database, as they are committed, to a
//! program in development. It reads `webhook.event` with a reader's rights, and writes nothing: no
//! subscription, no attempt, no checkpoint.
//!
//! The cursor is a snapshot, as in the daemon. Each poll reads what is visible now and was not
//! visible then, page by page.

use crate::{
    cli::Listen,
    commands::{
        Error,
        client::{Call, Client},
        exit,
        output::{check_reader, print},
        session::explain,
        terminal::clean,
    },
};
use database::{self, Purpose, Target, Watch};
use delivery::{
    body::{self, Source},
    event::Event,
    shape::{Format, PayloadMode, Shape},
};
use hyper::Method;
use rustls::crypto::ring;
use signature::Secret;
use source::outbox::row::{self, Columns};
use std::{
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio_util::sync::CancellationToken;

/// Maximum number of events of a page.
const PAGE_ROWS: i64 = 500;
/// Time between two polls.
const EVERY: Duration = Duration::from_millis(200);
/// Time limit for an answer of the program.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Sends each event once, in order, and prints the program's answer. The exit code is 1 if the
/// program rejected an event.
///
/// # Errors
/// An invalid address or secret, and the errors of the database.
pub async fn run(
    flags: &Listen,
    url: &str,
    target: Target,
    shutdown: CancellationToken,
) -> Result<ExitCode, Error> {
    let client = Client::new(url, ANSWER_TIMEOUT).map_err(Error::Usage)?;
    let secret = secret(flags)?;
    // The standard format does not contain it.
    let source = Source::parse("/").map_err(|why| Error::Usage(why.to_string()))?;
    let session = database::open_session(&target, Purpose::Reader, Watch::default()).await?;
    session.batch_execute("set default_transaction_read_only = on").await.map_err(explain)?;
    let mut seen = snapshot(&session).await?;
    print(&format!("forwarding to {}\n", clean(url)))?;
    if flags.secret.is_empty() {
        print(&format!("signed with {}\n", secret.reveal()))?;
    }
    let (mut left, mut all_taken) = (flags.count, true);
    loop {
        let now = snapshot(&session).await?;
        let (mut after, mut is_last) = (0, now == seen);
        while !is_last {
            let page = page(&session, &seen, &now, &flags.events, after).await?;
            is_last = page.len() < usize::try_from(PAGE_ROWS).unwrap_or(usize::MAX);
            for event in page {
                after = event.id;
                let sent = tokio::select! {
                    () = shutdown.cancelled() => return Ok(exit(all_taken)),
                    sent = forward(&client, &secret, &source, &event) => sent,
                };
                all_taken &= sent.taken;
                print(&if flags.json { sent.json } else { sent.line })?;
                if let Some(left) = &mut left {
                    *left -= 1;
                    if *left == 0 {
                        return Ok(exit(all_taken));
                    }
                }
            }
        }
        seen = now;
        check_reader()?;
        tokio::select! {
            () = shutdown.cancelled() => return Ok(exit(all_taken)),
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Returns the given secret, or one that is generated for this run.
fn secret(flags: &Listen) -> Result<Secret, Error> {
    let why = |error: signature::InvalidSecret| Error::Usage(format!("--secret: {error}"));
    match &flags.secret[..] {
        [] => {
            let mut key = [0; 32];
            ring::default_provider()
                .secure_random
                .fill(&mut key)
                .map_err(|_| Error::Usage("cannot generate a secret; use --secret".to_owned()))?;
            Secret::from_key(&key).map_err(why)
        }
        [secret] => Secret::parse(secret.trim()).map_err(why),
        _ => Err(Error::Usage("--forward-to accepts only one --secret".to_owned())),
    }
}

async fn snapshot(session: &database::Client) -> Result<String, Error> {
    let row = session.query_one("select pg_current_snapshot()::text", &[]).await.map_err(explain)?;
    row.try_get(0).map_err(explain)
}

/// Returns the next events that are visible in `now` and were not visible in `seen`, in the order
/// of their ids: events of transactions that began since, and of those that were running then and
/// have ended.
async fn page(
    session: &database::Client,
    seen: &str,
    now: &str,
    patterns: &[String],
    after: i64,
) -> Result<Vec<Event>, Error> {
    let columns = Columns { encoding: session.encoding(), has_owner: false };
    let query = format!(include_str!("sql/forward_page.sql"), columns = columns.text("e.event"));
    let patterns = patterns.to_vec();
    let rows = session.query(&query, &[&seen, &now, &patterns, &after, &PAGE_ROWS]).await.map_err(explain)?;
    rows.iter().map(|found| row::event(found, 0, session.encoding()).map_err(explain)).collect()
}

struct Sent {
    taken: bool,
    line: String,
    json: String,
}

async fn forward(client: &Client, secret: &Secret, source: &Source, event: &Event) -> Sent {
    let shape = Shape { format: Format::Standard, payload_mode: PayloadMode::Full };
    let body = body::render(event, 1, shape, source).body;
    let id = body::public_id(event);
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let timestamp = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
    let headers = vec![
        ("content-type", "application/json".to_owned()),
        ("webhook-id", id.to_string()),
        ("webhook-timestamp", timestamp.to_string()),
        ("webhook-signature", signature::sign(secret, &id, timestamp, &body)),
    ];
    let answer = client.send(Call { method: Method::POST, headers, body, pause: Duration::ZERO }).await;
    let (status, ms, error) = match answer {
        Ok(answer) => (Some(answer.status), Some(answer.elapsed.as_secs_f64() * 1000.0), None),
        Err(error) => (None, None, Some(error.to_string())),
    };
    let taken = status.is_some_and(|status| status / 100 == 2);
    let told = match (status, &error) {
        (Some(status), _) => format!("{status}  {:.1} ms", ms.unwrap_or_default()),
        (None, error) => clean(error.as_deref().unwrap_or_default()),
    };
    let mark = if taken { "✓" } else { "✗" };
    Sent {
        taken,
        line: format!("{mark} {}  {id}  #{}  {told}\n", clean(&event.event_type), event.id),
        json:
            serde_json::json!({"id": &*id, "type": &*event.event_type, "sequence": event.id, "status": status,
                                 "duration_ms": ms, "error": error})
            .to_string()
                + "\n",
    }
}
