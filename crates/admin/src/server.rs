//! The listening socket. It limits the number of connections, the time for a request's head, and
//! the size of requests.

use crate::{
    State,
    caller::{ConcurrencyLimit, Peer},
    extract::BODY_BYTES_MAX,
    routes,
};
use axum::extract::{DefaultBodyLimit, Request};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;
use tracing::{debug, warn};

/// Maximum number of connections. More wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;
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
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let limit = ConcurrencyLimit::of_at_most(PER_ADDRESS_MAX);
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = shutdown.cancelled() => break,
        };
        let Ok(place) = place else { break };
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
        let (router, state) = (router.clone(), state.clone());
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            let peer = state.guard.peer(ip, request.headers());
            request.extensions_mut().insert(peer);
            router.clone().call(request)
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "admin.connection_ended");
            }
            drop((place, seat));
        });
    }
    let _ = timeout(GRACE, graceful.shutdown()).await;
}
