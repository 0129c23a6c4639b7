//! The listening socket. It limits the number of connections, the time for a request's head, and
//! the size of requests.
//!
//! Health and metrics have places of their own: a probe must not kill a healthy daemon because
//! others send too many requests.

use crate::{
    State,
    caller::{ConcurrencyLimit, Peer},
    extract::BODY_BYTES_MAX,
    guard::METRICS_PATH,
    health,
    places::{Busy, Places},
    portal,
    problem::Problem,
    routes,
};
use axum::{
    extract::{DefaultBodyLimit, Request},
    response::IntoResponse,
};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use std::time::Duration;
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;
use tracing::{debug, warn};

/// Maximum number of connections.
const CONNECTIONS_MAX: usize = 256;
/// Maximum number of further connections, which get health and metrics only.
const RESERVED_MAX: usize = 32;
const RESERVED_HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of connections from one address. More are closed at once, so that one client
/// leaves some to others.
const PER_ADDRESS_MAX: usize = 128;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// How long answers in progress may take at shutdown.
const GRACE: Duration = Duration::from_secs(2);

/// Serves requests until `shutdown`.
pub async fn serve(listener: TcpListener, state: State, shutdown: CancellationToken) {
    let router =
        routes::router(&state).layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).with_state(state.clone());
    let mut places = Places::of_at_most(CONNECTIONS_MAX);
    let mut reserved = Places::of_at_most(RESERVED_MAX);
    let graceful = GracefulShutdown::new();
    let limit = ConcurrencyLimit::of_at_most(PER_ADDRESS_MAX);
    loop {
        let (stream, address) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // No file descriptors are left. Connections that end release some.
                    warn!(%error, "admin.accept_failed");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = shutdown.cancelled() => break,
        };
        let ip = address.ip();
        // The connections of a proxy belong to all its clients.
        let seat = limit.enter(&Peer::from(ip));
        if seat.is_none() && !state.guard.is_proxy(ip) {
            debug!(%address, "admin.connection_refused");
            continue;
        }
        let has_place = places.make_room();
        if !has_place && !reserved.make_room() {
            debug!(%address, "admin.connection_refused");
            continue;
        }
        let busy = Busy::default();
        let (router, state, requests) = (router.clone(), state.clone(), busy.clone());
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            let in_progress = requests.begin();
            let peer = state.guard.peer(ip, request.headers());
            request.extensions_mut().insert(peer);
            portal::take_key(&mut request);
            let answer = if has_place || is_for_operators(request.uri().path()) {
                Ok(router.clone().call(request))
            } else {
                Err(Problem::unavailable("too many connections").into_response())
            };
            async move {
                let answer = match answer {
                    Ok(answer) => answer.await,
                    Err(refusal) => Ok(refusal),
                };
                drop(in_progress);
                answer
            }
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        let head_timeout = if has_place { HEAD_TIMEOUT } else { RESERVED_HEAD_TIMEOUT };
        http.timer(TokioTimer::new()).header_read_timeout(head_timeout).max_buf_size(HEAD_BYTES_MAX);
        http.keep_alive(has_place);
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "admin.connection_ended");
            }
            drop(seat);
        });
        let places = if has_place { &mut places } else { &mut reserved };
        places.take(task.abort_handle(), busy);
    }
    let _ = timeout(GRACE, graceful.shutdown()).await;
}

/// Reports whether a path has reserved places.
fn is_for_operators(path: &str) -> bool {
    path == METRICS_PATH || health::PATHS.contains(&path)
}
