//! Sends signed POST requests over HTTP/1.1 or HTTP/2 and reports their outcomes.
//!
//! The module uses hyper's connections and a pool of its own. It follows no redirects, keeps no
//! cookies, and decompresses nothing. One deadline covers the whole attempt, including the
//! response's body.
//!
//! Each attempt is made once, with one exception: a request that the receiver has not processed is
//! sent again (see [`crate::exchange`]). The outcome says so.

pub use crate::{
    age::{AGE_MAX, IDLE_TIMEOUT, ROUTE_VALID},
    answer::{RESPONSE_BYTES_MAX, STORED_BYTES_MAX, check},
};

use crate::{
    Head, Inquiry, Request, Sender,
    address_policy::AddressPolicy,
    answer::{Times, finish, judge, note},
    bad_head,
    dial::{Dialer, native_roots, tls_config},
    exchange::{Broken, Exchange},
    failure::Failure,
    message::{build, build_inquiry},
    origin::Caller,
    pool::{Pool, SWEEP_EVERY, Target},
    resolve::{Resolve, SystemResolver},
    spelling::Spellings,
};
use delivery::outcome::{Class, Outcome, Phases};
use signature::Profiles;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, timeout_at};

const SENT_AGAIN: &str =
    "the request was sent again, because the receiver had closed the connection or refused the stream";

/// Sends requests over its own connections.
pub struct HttpSender {
    dialer: Dialer,
    pool: Arc<Pool>,
    spellings: Spellings,
}

impl HttpSender {
    /// Returns a sender with the system's resolver and certificate authorities. Call it within a
    /// tokio runtime.
    ///
    /// # Errors
    /// Returns an error only if the cryptography provider lacks TLS 1.2 and 1.3.
    pub fn new(policy: AddressPolicy) -> Result<Self, rustls::Error> {
        Ok(Self::with(policy, Arc::new(SystemResolver), tls_config(native_roots())?))
    }

    /// Returns a sender with another resolver and other TLS settings. Call it within a tokio
    /// runtime.
    pub fn with(policy: AddressPolicy, resolver: Arc<dyn Resolve>, tls: Arc<rustls::ClientConfig>) -> Self {
        Self::over(Dialer::new(policy, resolver, tls))
    }

    /// Returns a sender that uses connections of this dialer. Call it within a tokio runtime.
    pub fn over(dialer: Dialer) -> Self {
        let pool = Arc::<Pool>::default();
        let swept = Arc::downgrade(&pool);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP_EVERY).await;
                let Some(pool) = swept.upgrade() else { return };
                pool.sweep();
            }
        });
        Self { dialer, pool, spellings: Spellings::default() }
    }
}

impl Sender for HttpSender {
    async fn send(&self, request: Request) -> Outcome {
        let (begun, now) = (Instant::now(), SystemTime::now());
        let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let started_at_us = i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX);
        let mut outcome = Outcome {
            class: Class::Succeeded,
            status: None,
            started_at_us,
            duration: Duration::ZERO,
            phases: Phases::default(),
            batch_id: None,
            error: None,
            response: None,
            retry_after: None,
            is_shortage: false,
        };
        let target = match self.pool.target(&request.url, request.tls.as_ref()) {
            Ok(target) => target,
            Err(refusal) => {
                fail(&mut outcome, &refusal.into());
                return outcome;
            }
        };
        let spelling = self.spellings.of(request.header_names.as_ref(), request.profiles).await;
        let make = |target: &Target| build(target, &request, spelling.as_deref(), started_at_us / 1_000_000);
        let deadline = begun + request.timeout;
        let caller = Caller { dialer: &self.dialer, owner: &request.owner, deadline: &deadline };
        let mut exchange = Exchange::new(caller, &target);
        let result = timeout_at(deadline, exchange.run(make)).await;
        let result = result.unwrap_or_else(|_| Err(Failure::Deadline(request.timeout).into()));
        let answered = Instant::now();
        (outcome.duration, outcome.phases) = (answered - begun, exchange.phases);
        let was_sent_again = exchange.was_sent_again;
        match result {
            Ok((lease, response)) => {
                judge(&mut outcome, &response);
                let times = Times { answered, deadline };
                finish(&mut outcome, &target, lease, response, &request.response, times).await;
                if outcome.class != Class::Succeeded {
                    outcome.duration = begun.elapsed();
                }
            }
            Err(Broken { failure, head }) => match bad_head::read(&head) {
                Some((response, why)) => {
                    judge(&mut outcome, &response);
                    check(&mut outcome, &request.response, b"");
                    note(&mut outcome, &why);
                }
                None => fail(&mut outcome, &failure),
            },
        }
        if was_sent_again {
            note(&mut outcome, SENT_AGAIN);
        }
        outcome
    }

    async fn inquire(&self, inquiry: Inquiry) -> Result<Head, String> {
        let target =
            self.pool.target(&inquiry.url, inquiry.tls.as_ref()).map_err(|refusal| refusal.to_string())?;
        let spelling = self.spellings.of(inquiry.header_names.as_ref(), Profiles::default()).await;
        let make = |target: &Target| Ok(build_inquiry(target, &inquiry, spelling.as_deref()));
        let deadline = Instant::now() + inquiry.timeout;
        let caller = Caller { dialer: &self.dialer, owner: &inquiry.owner, deadline: &deadline };
        let mut exchange = Exchange::new(caller, &target);
        let answered = timeout_at(deadline, exchange.run(make)).await;
        let answered = answered.unwrap_or_else(|_| Err(Failure::Deadline(inquiry.timeout).into()));
        // Dropping the connection discards the rest of the response, which is not read.
        let (_lease, response) = answered.map_err(|broken| broken.failure.to_string())?;
        let (head, _body) = response.into_parts();
        Ok(Head { status: head.status, headers: head.headers })
    }
}

fn fail(outcome: &mut Outcome, failure: &Failure) {
    outcome.class = failure.class();
    outcome.is_shortage = matches!(failure, Failure::Shortage(_));
    outcome.error = Some(failure.to_string());
}
