//! The admin server (`webhookd run --admin ADDR`): REST API, page, metrics and health.
//!
//! The server has its own thread, its own Postgres sessions and its own connections. It shares only
//! three things with deliveries: the counters of written results ([`counters`]), the counters of
//! spans, and the daemon's phase.
//!
//! Data of callers is read and changed only through the SQL API and its views, with the caller's
//! rights ([`sessions`]). The [`sampler`] reads figures with the daemon's rights. The server reads
//! no secret. The only tables that it writes by itself are those in
//! `sql/admin.sql` and `sql/portal.sql`. Without
//! `--admin`, nothing of it runs.

#![expect(
    clippy::result_large_err,
    reason = "a problem ends its request, which has cost a thousand times as much"
)]

mod answers;
mod body;
mod browser_sessions;
mod caller;
pub mod counters;
pub mod cursor;
pub mod deliveries;
pub mod events;
pub mod extract;
pub mod guard;
mod headers;
pub mod health;
pub mod metrics;
pub mod options;
pub mod page;
mod places;
mod policy;
pub mod portal;
pub mod portal_links;
mod priority;
pub mod problem;
pub mod receivers;
pub mod routes;
pub mod sampler;
mod server;
pub mod sessions;
pub mod subscriptions;
mod thread;
pub mod token;
pub mod tokens;
mod words;

use browser_sessions::BrowserSessions;
use counters::Counters;
use database::{Phase, Target};
use delivery::body::Source;
use guard::Guard;
use ipnet::IpNet;
use portal::PortalSettings;
use sampler::History;
use sessions::Database;
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
};
use thiserror::Error;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use traces::Counts;
use tracing::{info, warn};

/// The settings of the admin server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub address: SocketAddr,
    /// Requests without a token act as this role. Allowed on a loopback address only.
    pub open_as: Option<String>,
    /// Proxies whose `X-Forwarded-For` is trusted.
    pub trust_proxy: Vec<IpNet>,
    /// The page of an owner, and the links to it.
    pub portal: PortalSettings,
}

/// The warning about an admin server that other machines reach without TLS.
pub const EXPOSED: &str = "other machines reach it over plain HTTP, and tokens are sent in clear text; put a TLS proxy in front of it";

impl Settings {
    /// Reports whether other machines reach the server without a proxy that is known to us.
    pub fn is_exposed(&self) -> bool {
        !self.address.ip().to_canonical().is_loopback() && self.trust_proxy.is_empty()
    }
}

/// The reason why the admin server cannot start.
#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot listen on {address}")]
    Bind {
        address: SocketAddr,
        #[source]
        cause: io::Error,
    },
    #[error(transparent)]
    App(#[from] database::Error),
    #[error("cannot start the admin server's thread")]
    Thread(#[from] io::Error),
    #[error("cannot generate random numbers")]
    NoRandomness(#[source] getrandom::Error),
    #[error("cannot set up the metrics")]
    Metrics(#[from] prometheus::Error),
}

/// The state that all requests share.
pub struct Shared {
    pub guard: Guard,
    pub database: Arc<Database>,
    pub counters: Arc<Counters>,
    /// Counters of spans by result.
    pub spans: Arc<Counts>,
    pub history: History,
    pub phase: watch::Receiver<Phase>,
    /// The `source` attribute of CloudEvents.
    pub source: Source,
    /// Key of the tokens in the page's forms. Each start generates a new one.
    pub form_key: [u8; 32],
    pub browser_sessions: BrowserSessions,
    pub portal: Arc<PortalSettings>,
    /// Ends streamed responses.
    pub shutdown: CancellationToken,
    requests: Mutex<BTreeMap<(String, u16), u64>>,
}

/// [`Shared`] as axum passes it to handlers.
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

/// The parts of the daemon that the admin server uses.
#[derive(Clone)]
pub struct Surroundings {
    pub database: Target,
    pub counters: Arc<Counters>,
    pub phase: watch::Receiver<Phase>,
    pub source: Source,
    pub spans: Arc<Counts>,
}

/// Starts the admin server. It ends a few seconds after `shutdown`.
///
/// # Errors
/// Returns an error if the address is in use, the database is unreachable, or the extension needs
/// an update first.
pub async fn start(
    settings: Settings,
    surroundings: Surroundings,
    shutdown: CancellationToken,
) -> Result<JoinHandle<()>, Error> {
    thread::run(prepare(settings, surroundings, shutdown)).await
}

async fn prepare(
    settings: Settings,
    surroundings: Surroundings,
    shutdown: CancellationToken,
) -> Result<impl Future<Output = ()>, Error> {
    let Surroundings { database: target, counters, phase, source, spans } = surroundings;
    let (address, is_exposed) = (settings.address, settings.is_exposed());
    let listener = TcpListener::bind(address).await.map_err(|cause| Error::Bind { address, cause })?;
    let address = listener.local_addr().unwrap_or(address);
    let database = Database::open(target.clone(), settings.open_as.as_deref()).await?;
    if settings.open_as.is_none() && !database.has_tokens().await? {
        // A missing token is no reason to stop deliveries. A token that is created later works at
        // once.
        warn!(
            "admin.no_tokens; the admin server rejects all requests until webhookd token create creates one"
        );
    }
    let mut form_key = [0; 32];
    getrandom::fill(&mut form_key).map_err(Error::NoRandomness)?;
    let state = State(Arc::new(Shared {
        guard: Guard::new(settings.open_as, settings.trust_proxy),
        database,
        counters,
        spans,
        history: History::default(),
        phase,
        source,
        form_key,
        browser_sessions: BrowserSessions::default(),
        portal: Arc::new(settings.portal),
        shutdown: shutdown.clone(),
        requests: Mutex::default(),
    }));
    info!(url = %format_args!("http://{address}/"), "admin.listens");
    if is_exposed {
        warn!("admin.exposed; {EXPOSED}");
    }
    tokio::spawn(sampler::run(target, state.clone(), shutdown.clone()));
    Ok(server::serve(listener, state, shutdown))
}
