//! The daemon: connects, becomes the leader, and runs sessions until shutdown. It reconnects after
//! a lost session.
//!
//! The command line uses [`run`] and [`check`].

use crate::{
    session::{Session, SessionEnd, UnwrittenResults},
    settings::Settings,
};
use database::{Error, Phase, Target, Watch, preflight};
use sender::Sender;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Shortest and longest wait before the next attempt to connect.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// A leader's session that ends sooner has not delivered. For example, the disk has no space for
/// the results of the session before.
const LASTING: Duration = Duration::from_millis(500);

/// If Postgres rejects a statement, the extension may have changed, and the next session will work.
/// After this many short sessions in a row, the cause is another.
const REFUSED_MAX: u32 = 3;
const REFUSED_WITHIN: Duration = Duration::from_secs(60);

/// Delivers until `shutdown`. If another daemon is the leader, waits as a standby, and takes over
/// when the leader ends.
///
/// Shutdown takes at most `drain_timeout`, and 5 s for the last writes.
///
/// # Errors
/// At the start, the first problem. After a session has run, the function waits for a server that
/// is away or has become a standby.
pub async fn run(settings: Settings, sender: impl Sender, shutdown: CancellationToken) -> Result<(), Error> {
    let sender = Arc::new(sender);
    let mut unwritten = UnwrittenResults::default();
    let mut patience = Patience::default();
    loop {
        let opened = tokio::select! {
            opened = Session::open(&settings) => opened,
            () = shutdown.cancelled() => return Ok(()),
        };
        let error = match opened {
            Ok(session) => {
                // All requirements are met. What ends the session from here on may be temporary.
                patience.has_run = true;
                let began = Instant::now();
                match session.run(&settings, &sender, &shutdown, &mut unwritten).await {
                    SessionEnd::Shutdown => return Ok(()),
                    SessionEnd::Lost { error, was_active } => {
                        if was_active {
                            patience.renew(&error, began.elapsed());
                        }
                        error
                    }
                }
            }
            Err(error) => error,
        };
        settings.phase.send_replace(Phase::Connecting);
        if shutdown.is_cancelled() {
            return Err(error);
        }
        let wait = patience.wait_after(error, fastrand::f64())?;
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

/// Decides about the next attempt to connect, and the time before it.
#[derive(Debug)]
struct Patience {
    /// A session has been opened, and all requirements were met.
    has_run: bool,
    is_told: bool,
    backoff: Duration,
    refused: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self { has_run: false, is_told: false, backoff: BACKOFF_MIN, refused: 0 }
    }
}

impl Patience {
    /// Records that a leader's session has ended after this time.
    fn renew(&mut self, error: &Error, lasted: Duration) {
        let is_refused = !error.may_pass() && lasted < REFUSED_WITHIN;
        self.refused = if is_refused { self.refused + 1 } else { 0 };
        self.has_run = true;
        if lasted >= LASTING {
            self.is_told = false;
            self.backoff = BACKOFF_MIN;
        }
    }

    /// Returns the time before the next attempt. `unit` is evenly distributed over 0..1.
    ///
    /// # Errors
    /// The same error, if another attempt does not help.
    fn wait_after(&mut self, error: Error, unit: f64) -> Result<Duration, Error> {
        let may_pass =
            error.may_pass() || (matches!(error, Error::Database(_)) && self.refused < REFUSED_MAX);
        if !self.has_run || !may_pass {
            return Err(error);
        }
        let cause = database::chain(&error);
        if self.is_told {
            debug!(error = cause, "session.still_lost");
        } else {
            warn!(error = cause, "session.lost");
            self.is_told = true;
        }
        let wait = self.backoff.mul_f64(0.8 + 0.4 * unit);
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        Ok(wait)
    }
}

/// Checks everything that [`run`] requires, and reads the checkpoint. It changes nothing.
///
/// # Errors
/// The first requirement that is not met.
pub async fn check(database: &Target) -> Result<preflight::Report, Error> {
    let client = database::open_session(database, database::Purpose::Command, Watch::default()).await?;
    let other = database::open_session(database, database::Purpose::Command, Watch::default()).await?;
    let report = preflight::preflight(&client, &database.instance).await?;
    preflight::refuse_transaction_pooler(&client, &other).await?;
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_fails_at_once_and_later_ones_wait_longer() {
        let mut patience = Patience::default();
        assert!(patience.wait_after(Error::ConnectionLost, 0.5).is_err());
        patience.renew(&Error::ConnectionLost, Duration::from_secs(1));
        let waits: Vec<u128> = (0..8)
            .map(|_| patience.wait_after(Error::ReadOnly, 0.5).expect("it waits").as_millis())
            .collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        patience.renew(&Error::ConnectionLost, Duration::from_millis(50));
        assert_eq!(
            patience.wait_after(Error::ReadOnly, 0.5).expect("it waits").as_millis(),
            5000,
            "a short session does not reset the wait"
        );
        patience.renew(&Error::ConnectionLost, Duration::from_secs(1));
        assert_eq!(patience.wait_after(Error::ReadOnly, 0.5).expect("it waits").as_millis(), 100);
        assert!(patience.wait_after(Error::ExtensionMissing, 0.5).is_err(), "waiting does not help");
    }
}
