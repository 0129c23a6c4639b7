//! Looks up host names, a bounded number at once, and no owner more than a share of them.
//!
//! A name whose servers are silent occupies a thread for many seconds after its callers have given
//! up. So a lookup has a place until it ends ([`places`](crate::places)), and callers that ask for
//! its name meanwhile share it. No result is cached afterwards.
//!
//! If a lookup has not begun in time, this daemon has too little of something, and the receiver is
//! not charged. If it has begun, and the name is not resolved in time, the receiver is.

use crate::{
    failure::Failure,
    places::{Answer, Asked, Begun, Owner, Places, Progress},
    resolve::Resolve,
};
use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

/// Timeout of a lookup, and longest wait for its begin.
pub const DNS_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of lookups at once. The runtime has 512 threads for calls that block, and the
/// other half stays free: for Postgres, the collector of spans, and files.
pub const LOOK_UPS_MAX: usize = 256;

/// The lookup has not begun in time.
pub const NOT_BEGUN: Failure = Failure::Shortage(
    "webhookd has too many lookups of host names under way for the subscription's owner; this one has not begun",
);

/// Looks up names. Copies share the places.
#[derive(Clone)]
pub struct LookUps {
    resolver: Arc<dyn Resolve>,
    places: Arc<Mutex<Places>>,
}

impl LookUps {
    /// Returns lookups with this many places.
    pub fn new(resolver: Arc<dyn Resolve>, places: usize) -> Self {
        Self { resolver, places: Arc::new(Mutex::new(Places::new(places))) }
    }

    /// Returns the same with another number of places. Call it before the first lookup.
    #[must_use]
    pub fn with_places(self, places: usize) -> Self {
        Self::new(self.resolver, places)
    }

    /// Returns the addresses of a name. Waits for a place until `wait_until`, and then 5 s for the
    /// answer. `None`: it does not wait for a place.
    ///
    /// # Errors
    /// Returns [`NOT_BEGUN`], or a [`Failure`] of class dns, or one of this machine.
    pub async fn resolve(
        &self,
        name: &str,
        owner: &Owner,
        wait_until: Option<Instant>,
    ) -> Result<Vec<IpAddr>, Failure> {
        let mut progress = match wait_until {
            Some(until) => self.begun(name, owner, until).await?,
            None => self.ask(name, owner, false).ok_or(NOT_BEGUN)?.progress,
        };
        let ended = progress.wait_for(|progress| matches!(progress, Progress::Ended(_)));
        match timeout(DNS_TIMEOUT, ended).await {
            Ok(Ok(ended)) => match &*ended {
                Progress::Ended(answer) => answer.as_ref().map(|found| found.to_vec()).map_err(Clone::clone),
                Progress::Waits | Progress::Runs => Err(NOT_BEGUN),
            },
            // The sender of the progress is dropped only with the runtime.
            Ok(Err(_)) => Err(NOT_BEGUN),
            Err(_) => Err(Failure::DnsTimeout(DNS_TIMEOUT)),
        }
    }

    /// Waits until a lookup has begun.
    async fn begun(
        &self,
        name: &str,
        owner: &Owner,
        until: Instant,
    ) -> Result<watch::Receiver<Progress>, Failure> {
        let Asked { mut progress, number, .. } = self.ask(name, owner, true).ok_or(NOT_BEGUN)?;
        if *progress.borrow() == Progress::Waits {
            let _waiting = Waiting { places: &self.places, name, number };
            let begun = progress.wait_for(|progress| *progress != Progress::Waits);
            timeout_at(until, begun).await.map_err(|_| NOT_BEGUN)?.map_err(|_| NOT_BEGUN)?;
        }
        Ok(progress)
    }

    fn ask(&self, name: &str, owner: &Owner, waits: bool) -> Option<Asked> {
        let mut asked = lock(&self.places).ask(name, owner, waits)?;
        if let Some(begun) = asked.begun.take() {
            self.clone().start(begun);
        }
        Some(asked)
    }

    /// Starts a lookup as its own task, so the deadline of one caller does not cancel it for the
    /// others.
    fn start(self, begun: Begun) {
        // Only a runtime that ends has no handle. It starts nothing more.
        if let Ok(runtime) = Handle::try_current() {
            let resolver = Arc::clone(&self.resolver);
            let place = Place { look_ups: self, begun, answer: None };
            runtime.spawn(async move {
                let found = resolver.resolve(&place.begun.name).await;
                let failed = |error| Failure::of_this_machine(&error).unwrap_or(Failure::Dns);
                place.end(found.map(Arc::from).map_err(failed));
            });
        }
    }
}

fn lock(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A caller that waits for the begin of a lookup.
struct Waiting<'a> {
    places: &'a Mutex<Places>,
    name: &'a str,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(self.places).leave(self.name, self.number);
    }
}

/// A place. Dropping it ends the lookup, and begins the next.
struct Place {
    look_ups: LookUps,
    begun: Begun,
    answer: Option<Answer>,
}

impl Place {
    fn end(mut self, answer: Answer) {
        self.answer = Some(answer);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let panicked = || std::thread::panicking().then_some(Err(Failure::Dns));
        // Without an answer, the runtime ends, and begins nothing more.
        let Some(answer) = self.answer.take().or_else(panicked) else { return };
        let next = lock(&self.look_ups.places).end(&self.begun, answer);
        for begun in next {
            self.look_ups.clone().start(begun);
        }
    }
}

#[cfg(test)]
mod tests;
