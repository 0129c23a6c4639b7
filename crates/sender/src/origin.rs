//! The connections to one endpoint.
//!
//! A plain endpoint, and one that is known to speak HTTP/1.1 only, gets as many connections as it
//! has requests at once. For any other endpoint, one handshake runs at a time: if it agrees on
//! HTTP/2, the waiting requests share the connection. A request that waits for its owner's lookups
//! holds up no request of another owner, although both call the same endpoint.
//!
//! A receiver may move to another address. So a connection that was opened or checked more than
//! 30 s ago is used again only if the host's name still leads to its address, and no connection
//! gets requests for more than five minutes.

use crate::{
    age::{Age, ROUTE_VALID},
    dial::{Dialer, Endpoint, Offer},
    failure::Failure,
    http1::Http1,
    http2::{Http2, Http2Stream},
    look_ups::{DNS_TIMEOUT, NOT_BEGUN},
    places::Owner,
    route::Route,
};
use delivery::outcome::Phases;
use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

/// Timeout of a lookup that checks a connection. A slow or broken resolver must not stop
/// connections that work.
const ROUTE_TIMEOUT: Duration = Duration::from_secs(1);

/// The attempt that needs a connection.
pub struct Caller<'a> {
    pub dialer: &'a Dialer,
    pub owner: &'a Owner,
    /// The end of the attempt.
    pub deadline: &'a Instant,
}

/// What the endpoint speaks.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    #[default]
    Unknown,
    Http1,
    Http2,
    /// The receiver speaks HTTP/2 and has asked for HTTP/1.1 (RFC 9113, 7: HTTP_1_1_REQUIRED).
    Http1Required,
}

/// The right to make one request.
pub enum Lease {
    /// Boxed, because it moves from the origin to the attempt and back.
    Http1(Box<Http1>),
    Http2(Http2Stream),
}

#[derive(Default)]
struct Connections {
    #[expect(clippy::vec_box, reason = "a box goes to the attempt and back, and its content stays")]
    idle: Vec<Box<Http1>>,
    shared: Vec<Arc<Http2>>,
    spoken: Spoken,
}

/// An endpoint and its connections.
pub struct Origin {
    pub endpoint: Endpoint,
    connections: Mutex<Connections>,
    /// Held during a handshake. The last failure, and when it happened.
    turn: tokio::sync::Mutex<Option<(Instant, Failure)>>,
    /// Is notified when a stream of HTTP/2 is free again.
    freed: Arc<Notify>,
    /// Where the name led to at this time. `None` inside if the lookup decided nothing.
    route: tokio::sync::Mutex<Option<(Instant, Option<Route>)>>,
}

impl Origin {
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            connections: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            freed: Arc::default(),
            route: tokio::sync::Mutex::default(),
        }
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns an open connection, if it still leads to the receiver. The connection that was used
    /// last comes first.
    pub async fn take(&self, caller: &Caller<'_>) -> Option<Lease> {
        loop {
            let now = Instant::now();
            let mut lease = self.pop(now)?;
            let mut age = lease.age();
            if age.is_confirmed(now) {
                return Some(lease);
            }
            // Boxed, because each attempt would keep room for it, and it seldom happens.
            let leads = Box::pin(self.confirm(&mut age, caller)).await;
            if leads {
                lease.set_age(age);
                return Some(lease);
            }
            tracing::debug!(host = %self.endpoint.host, "connection.moved; the name leads elsewhere");
            lease.retire();
        }
    }

    fn pop(&self, now: Instant) -> Option<Lease> {
        let mut connections = self.connections();
        while let Some(connection) = connections.idle.pop() {
            if connection.is_usable(now) {
                return Some(Lease::Http1(connection));
            }
        }
        if !connections.shared.is_empty() {
            connections.shared.retain(|shared| shared.is_open(now));
        }
        connections.shared.iter().find_map(Http2::stream).map(Lease::Http2)
    }

    /// Reports whether the host's name still leads to the peer of a connection. Resolves the name
    /// unless another connection has done so in the last 30 s.
    async fn confirm(&self, age: &mut Age, caller: &Caller<'_>) -> bool {
        let mut known = self.route.lock().await;
        let (at, route) = match &*known {
            Some((at, route)) if at.elapsed() < ROUTE_VALID => (*at, route),
            _ => {
                let found = timeout(ROUTE_TIMEOUT, caller.dialer.route(&self.endpoint, caller.owner)).await;
                let route = match found {
                    Ok(Ok(route)) => Some(route),
                    // The next request looks, perhaps that of another owner.
                    Ok(Err(failure)) if failure == NOT_BEGUN => return true,
                    // The policy forbids one of the present addresses.
                    Ok(Err(Failure::Refused(_))) => Some(Route::nowhere()),
                    // Without an answer, the connection stays in use until its age ends it.
                    Ok(Err(_)) | Err(_) => None,
                };
                let (at, route) = known.insert((Instant::now(), route));
                (*at, &*route)
            }
        };
        age.confirm(at);
        route.as_ref().is_none_or(|route| route.leads_to(&age.peer))
    }

    /// Returns a new connection, or a stream of one that another request has opened meanwhile.
    ///
    /// # Errors
    /// Returns the [`Failure`] of the dialer. Requests that waited for a handshake share its
    /// failure.
    pub async fn open(&self, caller: &Caller<'_>, phases: &mut Phases) -> Result<Lease, Failure> {
        let began = Instant::now();
        let mut known = None;
        loop {
            if self.dials_freely() {
                match self.dial(caller, known.take(), phases).await {
                    Err(failure) if failure == NOT_BEGUN => known = Some(self.look_up(caller, phases).await?),
                    dialed => return dialed,
                }
                continue;
            }
            let turn = tokio::select! {
                turn = self.turn.lock() => Some(turn),
                () = self.freed.notified() => None,
            };
            if let Some(lease) = self.take(caller).await {
                return Ok(lease);
            }
            let Some(mut turn) = turn else { continue };
            if self.dials_freely() {
                continue;
            }
            if let Some((at, failure)) = &*turn
                && *at >= began
            {
                return Err(failure.clone());
            }
            let dialed = self.dial(caller, known.take(), phases).await;
            if dialed.as_ref().err() == Some(&NOT_BEGUN) {
                // The others may be of other owners.
                drop(turn);
                known = Some(self.look_up(caller, phases).await?);
                continue;
            }
            *turn = dialed.as_ref().err().map(|failure| (Instant::now(), failure.clone()));
            return dialed;
        }
    }

    /// Reports whether requests must not wait for each other's handshakes.
    fn dials_freely(&self) -> bool {
        let spoken = self.connections().spoken;
        !self.endpoint.https || matches!(spoken, Spoken::Http1 | Spoken::Http1Required)
    }

    /// Looks up the addresses after the lookups that its owner makes already. The wait leaves half
    /// of the attempt's time for the rest.
    async fn look_up(&self, caller: &Caller<'_>, phases: &mut Phases) -> Result<Vec<IpAddr>, Failure> {
        let now = Instant::now();
        let wait = (caller.deadline.saturating_duration_since(now) / 2).min(DNS_TIMEOUT);
        caller.dialer.look_up(&self.endpoint, caller.owner, now + wait, phases).await
    }

    /// Opens a connection, to `known` addresses or to those that can be looked up at once.
    ///
    /// # Errors
    /// Returns the [`Failure`] of the dialer, or of the start of HTTP.
    async fn dial(
        &self,
        caller: &Caller<'_>,
        known: Option<Vec<IpAddr>>,
        phases: &mut Phases,
    ) -> Result<Lease, Failure> {
        let is_required = self.connections().spoken == Spoken::Http1Required;
        let offer = if is_required { Offer::Http1 } else { Offer::Any };
        let dialed = caller.dialer.dial(&self.endpoint, offer, caller.owner, known, phases).await?;
        if !dialed.is_http2 {
            self.learn(Spoken::Http1);
            let connection = Http1::over(dialed).await.map_err(|error| Failure::of_exchange(&error))?;
            return Ok(Lease::Http1(Box::new(connection)));
        }
        let connection = Http2::over(dialed, Arc::clone(&self.freed)).await;
        let connection = Arc::new(connection.map_err(|error| Failure::of_exchange(&error))?);
        let mut connections = self.connections();
        if connections.spoken != Spoken::Http1Required {
            connections.spoken = Spoken::Http2;
        }
        let stream = connection.stream();
        connections.shared.push(connection);
        stream.map(Lease::Http2).ok_or(Failure::Protocol("the receiver allows no request over HTTP/2"))
    }

    fn learn(&self, spoken: Spoken) {
        let mut connections = self.connections();
        if connections.spoken != Spoken::Http1Required {
            connections.spoken = spoken;
        }
    }

    /// Offers only HTTP/1.1 from now on.
    pub fn require_http1(&self) {
        let mut connections = self.connections();
        connections.spoken = Spoken::Http1Required;
        for shared in connections.shared.drain(..) {
            shared.retire();
        }
    }

    /// Keeps a connection for the next request.
    pub fn keep(&self, mut connection: Box<Http1>) {
        let now = Instant::now();
        if !connection.age.is_over(now) {
            connection.rest(now);
            self.connections().idle.push(connection);
        }
    }

    /// Closes connections that have not been used for long. Returns the number of the others.
    pub fn sweep(&self, now: Instant) -> usize {
        let mut connections = self.connections();
        connections.shared.retain(|shared| shared.can_stay(now));
        let idle = &mut connections.idle;
        idle.retain(|connection| connection.can_stay(now));
        if idle.capacity() > 4 * idle.len() {
            idle.shrink_to_fit();
        }
        connections.idle.len() + connections.shared.len()
    }
}

impl Lease {
    fn age(&self) -> Age {
        match self {
            Self::Http1(connection) => connection.age,
            Self::Http2(stream) => *stream.connection.age.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn set_age(&mut self, age: Age) {
        match self {
            Self::Http1(connection) => connection.age = age,
            Self::Http2(stream) => {
                *stream.connection.age.lock().unwrap_or_else(PoisonError::into_inner) = age;
            }
        }
    }

    /// Ends the connection, or gives it no further requests.
    pub fn retire(self) {
        if let Self::Http2(stream) = self {
            stream.connection.retire();
        }
    }
}
