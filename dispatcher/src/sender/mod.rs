//! Bytes out, outcome back. One interface; `http` is the direct implementation.

pub mod address_policy;
pub mod dial;
mod failure;
pub mod http;
mod pool;
pub mod resolve;

use crate::delivery::outcome::Outcome;
use bytes::Bytes;
use hyper::{
    StatusCode,
    header::{HeaderMap, HeaderValue},
};
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
    pub content_type: HeaderValue,
    /// What the body's format says in headers; `None`: nothing.
    pub attributes: Option<Arc<HeaderMap>>,
    /// What the subscription sends along; nothing here replaces a header of ours.
    pub headers: Option<Arc<HeaderMap>>,
    /// `WebHook-Request-Origin`, as promised in the handshake; `None`: there was none.
    pub origin: Option<HeaderValue>,
    /// One token per live secret, the newest first.
    pub signers: Arc<[Signer]>,
    /// For the whole attempt, the response body included.
    pub timeout: Duration,
    /// Header `traceparent`, if the event carries one.
    pub traceparent: Option<Arc<str>>,
}

impl Request {
    /// JSON and nothing beside it.
    pub fn json(
        url: Arc<url::Url>,
        id: Arc<str>,
        body: Bytes,
        signers: Arc<[Signer]>,
        timeout: Duration,
    ) -> Self {
        let content_type = HeaderValue::from_static("application/json");
        Self {
            url,
            id,
            body,
            content_type,
            attributes: None,
            headers: None,
            origin: None,
            signers,
            timeout,
            traceparent: None,
        }
    }
}

/// An OPTIONS request: asks a receiver whether it wants to be sent anything.
#[derive(Debug, Clone)]
pub struct Inquiry {
    pub url: Arc<url::Url>,
    /// What is asked.
    pub questions: HeaderMap,
    /// What the subscription sends along; nothing here replaces a header of ours.
    pub headers: Option<Arc<HeaderMap>>,
    pub timeout: Duration,
}

/// Status and headers of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub status: StatusCode,
    pub headers: HeaderMap,
}

/// Makes attempts. Never fails: what goes wrong is an [`Outcome`].
pub trait Sender: Send + Sync + 'static {
    fn send(&self, request: Request) -> impl Future<Output = Outcome> + Send;

    /// Asks; why there was no answer is told in words fit for everyone's eyes.
    fn inquire(&self, inquiry: Inquiry) -> impl Future<Output = Result<Head, String>> + Send;
}
