//! Bytes out, outcome back. One interface; `http` is the direct implementation.

pub mod address_policy;
pub mod dial;
mod failure;
pub mod http;
mod pool;
pub mod resolve;

use crate::delivery::outcome::Outcome;
use bytes::Bytes;
use signature::Signer;
use std::{future::Future, sync::Arc, time::Duration};

/// One attempt: everything the wire needs, nothing of the database.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where to; parsed once per subscription.
    pub url: Arc<url::Url>,
    /// `webhook-id`.
    pub id: Arc<str>,
    /// The same bytes for every attempt of a delivery.
    pub body: Bytes,
    /// One token per live secret, the newest first.
    pub signers: Arc<[Signer]>,
    /// For the whole attempt, the response body included.
    pub timeout: Duration,
    /// Header `traceparent`, if the event carries one.
    pub traceparent: Option<Arc<str>>,
}

/// Makes attempts. Never fails: what goes wrong is an [`Outcome`].
pub trait Sender: Send + Sync + 'static {
    fn send(&self, request: Request) -> impl Future<Output = Outcome> + Send;
}
