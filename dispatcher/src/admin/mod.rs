//! The admin server (`webhookd run --admin ADDR`): REST API, page, metrics and health.
//!
//! A room of its own: its own sessions of Postgres, its own connections, and one look at what the ledger has written
//! ([`tally`]). Everything it does is a call of the SQL API with the caller's rights ([`database`]); it reads no secret and
//! changes no table by itself but the two in `sql/admin.sql`. Without `--admin` nothing of it runs.

#![expect(
    clippy::result_large_err,
    reason = "a problem ends its request, which has cost a thousand times as much"
)]

pub mod cursor;
pub mod database;
pub mod deliveries;
pub mod events;
pub mod extract;
pub mod guard;
pub mod health;
pub mod metrics;
pub mod options;
pub mod page;
mod priority;
pub mod problem;
mod room;
pub mod routes;
pub mod sampler;
mod server;
pub mod subscriptions;
pub mod tally;
pub mod token;
mod words;

use crate::{
    app::{self, Phase},
    delivery::body::Source,
    postgres::Target,
    trace::Counts,
};
use database::Database;
use guard::Guard;
use ipnet::IpNet;
use sampler::History;
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
};
use tally::Tally;
use thiserror::Error;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// What the server is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub address: SocketAddr,
    /// Requests without a token act as this role: on a loopback address only.
    pub open_as: Option<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trust_proxy: Vec<IpNet>,
}

/// Why it does not start.
#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot listen on {address}")]
    Bind {
        address: SocketAddr,
        #[source]
        cause: io::Error,
    },
    #[error(transparent)]
    App(#[from] app::Error),
    #[error("it gets no thread")]
    Thread(#[from] io::Error),
    #[error("the machine has no random numbers")]
    NoRandomness(#[source] getrandom::Error),
    #[error("the metrics could not be set up")]
    Metrics(#[from] prometheus::Error),
}

/// What every request can use.
pub struct Shared {
    pub guard: Guard,
    pub database: Arc<Database>,
    pub tally: Arc<Tally>,
    /// What has become of spans.
    pub spans: Arc<Counts>,
    pub history: History,
    pub phase: watch::Receiver<Phase>,
    /// What CloudEvents call the place that events come from.
    pub source: Source,
    /// Makes the page's forms ours; another one after a restart.
    pub form_key: [u8; 32],
    /// Ends what streams.
    pub shutdown: CancellationToken,
    requests: Mutex<BTreeMap<(String, u16), u64>>,
}

/// [`Shared`], as axum passes it about.
#[derive(Clone)]
pub struct State(Arc<Shared>);

impl Deref for State {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Shared {
    fn counted(&self, route: String, status: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route, status)).or_default() += 1;
    }

    fn requests(&self) -> BTreeMap<(String, u16), u64> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the rest of the daemon gives it.
#[derive(Clone)]
pub struct Surroundings {
    pub database: Target,
    pub tally: Arc<Tally>,
    pub phase: watch::Receiver<Phase>,
    pub source: Source,
    pub spans: Arc<Counts>,
}

/// Starts to answer; ends some seconds after `shutdown`.
///
/// # Errors
/// An address in use, a database that is away or has an extension that is to be updated first.
pub async fn start(
    settings: Settings,
    surroundings: Surroundings,
    shutdown: CancellationToken,
) -> Result<JoinHandle<()>, Error> {
    room::run(prepare(settings, surroundings, shutdown)).await
}

async fn prepare(
    settings: Settings,
    surroundings: Surroundings,
    shutdown: CancellationToken,
) -> Result<impl Future<Output = ()>, Error> {
    let Surroundings { database: target, tally, phase, source, spans } = surroundings;
    let address = settings.address;
    let listener = TcpListener::bind(address).await.map_err(|cause| Error::Bind { address, cause })?;
    let address = listener.local_addr().unwrap_or(address);
    let database = Database::open(target.clone(), settings.open_as.as_deref()).await?;
    if settings.open_as.is_none() && !database.has_tokens().await? {
        // No reason to keep deliveries waiting; a token that is made from now on is good at once.
        warn!("admin.no_tokens; nobody can use the admin server until webhookd token create makes one");
    }
    let mut form_key = [0; 32];
    getrandom::fill(&mut form_key).map_err(Error::NoRandomness)?;
    let state = State(Arc::new(Shared {
        guard: Guard::new(settings.open_as, settings.trust_proxy),
        database,
        tally,
        spans,
        history: History::default(),
        phase,
        source,
        form_key,
        shutdown: shutdown.clone(),
        requests: Mutex::default(),
    }));
    info!(url = %format_args!("http://{address}/"), "admin.listens");
    tokio::spawn(sampler::run(target, state.clone(), shutdown.clone()));
    Ok(server::serve(listener, state, shutdown))
}
