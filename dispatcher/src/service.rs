//! Reports the daemon's state to systemd (`sd_notify`). Does nothing without systemd.
//!
//! The daemon reports that it is ready once it is the leader or a standby. It also reports a status
//! line. If the unit has `WatchdogSec=`, it reports at intervals that it is alive.

use database::Phase;
use sd_notify::{NotifyState, notify, watchdog_enabled};
use std::time::Duration;
use tokio::{
    sync::watch,
    time::{interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Returns the line that `systemctl status` shows.
fn line(phase: &Phase) -> String {
    match phase {
        Phase::Connecting => "connecting to Postgres".to_owned(),
        Phase::Standby => "standby: another daemon is the leader".to_owned(),
        Phase::Active { epoch } => format!("delivers (epoch {epoch})"),
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = notify(state) {
        debug!(%error, "service.not_told");
    }
}

/// Reports the state until `shutdown`.
pub async fn run(mut phase: watch::Receiver<Phase>, shutdown: CancellationToken) {
    let watchdog = watchdog_enabled();
    let mut ticks = watchdog.map(|period| interval((period / 2).max(Duration::from_millis(100))));
    let mut is_ready = false;
    loop {
        let alive = async {
            match &mut ticks {
                Some(ticks) => {
                    ticks.tick().await;
                }
                None => sleep(Duration::MAX).await,
            }
        };
        tokio::select! {
            changed = phase.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = phase.borrow_and_update().clone();
                let status = line(&now);
                if !is_ready && now != Phase::Connecting {
                    is_ready = true;
                    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
                } else {
                    tell(&[NotifyState::Status(&status)]);
                }
            }
            () = alive => tell(&[NotifyState::Watchdog]),
            () = shutdown.cancelled() => {
                tell(&[NotifyState::Stopping, NotifyState::Status("finishing attempts in flight")]);
                return;
            }
        }
    }
}
