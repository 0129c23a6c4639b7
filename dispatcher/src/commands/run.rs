//! `webhookd run`: the daemon. Creates the sender from the settings, and calls `app`.

use crate::{
    app,
    commands::{Error, one_line},
    config::{DaemonConfig, WayOut},
    reload::{Reload, Users},
    service,
};
use admin::{self, Surroundings, counters::Counters};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sender::{
    dial::Dialer, extras::EXTRAS_MAX, http::HttpSender, look_ups::LOOK_UPS_MAX, resolve::SystemResolver,
};
use std::{process::ExitCode, sync::Arc, time::Duration};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;
use traces::Traces;
use tracing::{debug, info, warn};

/// File descriptors for neither connections to receivers nor lookups: Postgres, standard streams,
/// the runtime.
const OTHER_DESCRIPTORS: u64 = 128;
/// Lookups use at most this part of the file descriptors, one each.
const LOOK_UPS_SHARE: u64 = 8;
/// Races use at most this part, beyond one descriptor for each attempt.
const EXTRAS_SHARE: u64 = 16;

/// Time between two checks of an admin server that waits for an update of the extension.
const UPDATED_INTERVAL: Duration = Duration::from_secs(2);

/// Delivers until `shutdown`.
///
/// # Errors
/// The errors of `app::run`.
pub async fn run(
    settings: DaemonConfig,
    reload: Reload,
    shutdown: CancellationToken,
) -> Result<ExitCode, Error> {
    let mut app = crate::settings::Settings::new(settings.database);
    app.safety_poll = settings.safety_poll;
    app.durable_reads = settings.durable_reads;
    app.drain_timeout = settings.drain_timeout;
    app.memory_bytes_max = settings.memory_bytes_max;
    app.max_in_flight_per_host = settings.max_in_flight_per_host;
    app.secrets = settings.secrets;
    app.periods = settings.periods;
    app.retire_interval = settings.retire_interval;
    let descriptors = Descriptors::raise();
    app.max_in_flight = app.max_in_flight.min(descriptors.connections);
    let identity = Arc::make_mut(&mut app.identity);
    if let Some(source) = settings.source {
        identity.source = source;
    }
    if let Some(origin) = settings.origin {
        identity.origin = origin;
    }
    let WayOut { policy, proxy, tls } = settings.way_out;
    let dialer = Dialer::new(policy, Arc::new(SystemResolver), tls).through(proxy);
    let dialer = dialer.with_look_ups(descriptors.look_ups).with_extras(descriptors.extras);
    let tls = dialer.tls();
    let sender = HttpSender::over(dialer);
    debug!(version = env!("CARGO_PKG_VERSION"), max_in_flight = app.max_in_flight, "webhookd.starting");
    let asked = shutdown.clone();
    tokio::spawn(async move {
        asked.cancelled().await;
        info!("webhookd.stopping");
    });
    app.traces = settings.traces.as_ref().map(Traces::start).transpose()?.map(Arc::new);
    let traces = app.traces.clone();
    let (database, secrets) = (app.database.clone(), Arc::clone(&app.secrets));
    tokio::spawn(reload.run(Users { database, secrets, tls, traces: traces.clone() }));
    tokio::spawn(service::run(app.phase.subscribe(), shutdown.clone()));
    let answers = match settings.admin {
        None => None,
        Some(settings) => {
            let counters = Arc::new(Counters::new().map_err(admin::Error::from)?);
            app.observer = Some(Arc::clone(&counters) as _);
            let surroundings = Surroundings {
                database: app.database.clone(),
                counters,
                phase: app.phase.subscribe(),
                source: app.identity.source.clone(),
                spans: traces.as_ref().map(|traces| traces.counts()).unwrap_or_default(),
            };
            Some(answer(settings, surroundings, shutdown.clone()).await?)
        }
    };
    let ended = app::run(app, sender, shutdown).await;
    if let Some(traces) = traces {
        traces.shutdown().await;
    }
    ended?;
    if let Some(answers) = answers {
        // The task ends soon by itself.
        let _ = answers.await;
    }
    info!("webhookd.stopped");
    Ok(ExitCode::SUCCESS)
}

/// Starts the admin server. It cannot serve an outdated extension, and waits for the update.
/// Deliveries do not wait.
async fn answer(
    settings: admin::Settings,
    surroundings: Surroundings,
    shutdown: CancellationToken,
) -> Result<JoinHandle<()>, admin::Error> {
    let mut started = admin::start(settings.clone(), surroundings.clone(), shutdown.clone()).await;
    let Err(admin::Error::App(database::Error::Outdated { .. })) = &started else { return started };
    Ok(tokio::spawn(async move {
        let mut told = String::new();
        loop {
            match started {
                Ok(answers) => return answers.await.unwrap_or_default(),
                Err(error) => {
                    let why = one_line(&error);
                    if why != told {
                        warn!(error = why, "admin.waits");
                        told = why;
                    }
                }
            }
            tokio::select! {
                () = sleep(UPDATED_INTERVAL) => {}
                () = shutdown.cancelled() => return,
            }
            started = admin::start(settings.clone(), surroundings.clone(), shutdown.clone()).await;
        }
    }))
}

/// How many connections to receivers, and how many lookups, the limit of open files allows.
#[derive(Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// `usize::MAX` if there is no limit.
    pub connections: usize,
    pub look_ups: usize,
    /// Further sockets of attempts that try several addresses at once.
    pub extras: usize,
}

impl Descriptors {
    /// Raises the limit as far as possible, and divides it.
    pub fn raise() -> Self {
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        let files = match setrlimit(Resource::Nofile, raised) {
            Ok(()) => limit.maximum,
            Err(_) => limit.current,
        };
        Self::of(files)
    }

    /// Divides a limit. `None` is no limit.
    fn of(files: Option<u64>) -> Self {
        let Some(files) = files else {
            return Self { connections: usize::MAX, look_ups: LOOK_UPS_MAX, extras: EXTRAS_MAX };
        };
        let count = |files| usize::try_from(files).unwrap_or(usize::MAX);
        let look_ups = count(files / LOOK_UPS_SHARE).clamp(4, LOOK_UPS_MAX);
        let extras = count(files / EXTRAS_SHARE).min(EXTRAS_MAX);
        let others = OTHER_DESCRIPTORS + (look_ups + extras) as u64;
        Self { connections: count(files.saturating_sub(others)).max(16), look_ups, extras }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_use_a_part_of_the_descriptors() {
        for (files, connections, look_ups, extras) in [
            (None, usize::MAX, 256, 1024),
            (Some(1_048_576), 1_048_576 - 128 - 256 - 1024, 256, 1024),
            (Some(1024), 704, 128, 64),
            (Some(256), 80, 32, 16),
            (Some(20), 16, 4, 1),
        ] {
            assert_eq!(Descriptors::of(files), Descriptors { connections, look_ups, extras }, "{files:?}");
        }
    }
}
