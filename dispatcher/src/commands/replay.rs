//! `webhookd replay`: requests the events of a time range again (`webhook_replay()`), and shows the
//! progress of their delivery. Meanwhile, it reads `webhook.subscription_stats`.

use crate::{
    cli::manage::Replay,
    commands::{
        Error,
        output::tell,
        session::{ClientSession, explain},
    },
};
use database::Target;
use indicatif::{ProgressBar, ProgressStyle};
use std::{process::ExitCode, time::Duration};
use tokio_util::sync::CancellationToken;

const WAITING: &str = "select retrying, queued from webhook.subscription_stats where id = $1";
/// Time between two polls.
const EVERY: Duration = Duration::from_millis(250);

/// Prints the number of events, and waits until the subscription has no queued deliveries. The exit
/// code is 1 if some wait for a retry.
///
/// # Errors
/// The database cannot be reached, or rejects the request.
pub async fn run(flags: &Replay, target: Target, shutdown: CancellationToken) -> Result<ExitCode, Error> {
    let session = ClientSession::open(&target).await?;
    let events = (!flags.events.is_empty()).then_some(&flags.events);
    let count = session
        .call(
            "webhook_replay($1, coalesce($2::text::timestamptz, now() - $5::text::interval), \
             coalesce($3::text::timestamptz, now()), $4)::text",
            &[&flags.id, &flags.since, &flags.until, &events, &flags.within],
        )
        .await?;
    let count: u64 = count.and_then(|count| count.parse().ok()).unwrap_or_default();
    tell(&format!("{count}\n"))?;
    if flags.no_wait || count == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    // On standard error, and only if that is a terminal.
    let bar = ProgressBar::new(count);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec}, {eta} left{msg}") {
        bar.set_style(style);
    }
    loop {
        let Some(row) = session.client.query_opt(WAITING, &[&flags.id]).await.map_err(explain)? else {
            bar.abandon();
            return Err(Error::Refused { message: format!("subscription {} was deleted", flags.id) });
        };
        let (retrying, queued): (i64, i64) =
            (row.try_get(0).map_err(explain)?, row.try_get(1).map_err(explain)?);
        let waiting = u64::try_from(retrying + queued).unwrap_or_default();
        bar.set_position(count.saturating_sub(waiting));
        if retrying > 0 {
            bar.set_message(format!(", {retrying} failed and will be retried"));
        }
        if queued == 0 {
            bar.finish();
            return Ok(super::exit(retrying == 0));
        }
        tokio::select! {
            () = shutdown.cancelled() => {
                bar.abandon();
                eprintln!("webhookd: {waiting} deliveries are still queued; webhookd delivers them later");
                return Ok(super::exit(false));
            }
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
