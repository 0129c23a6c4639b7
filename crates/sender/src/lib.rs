//! Sends requests to receivers.
//!
//! # The problem
//!
//! Users enter the URLs that this machine calls. A URL may point into the private network, at a
//! receiver that never answers, or at one that answers without end. The failures of a request must
//! be told apart, because they decide what happens to the delivery. And a request must cost little,
//! because there are many.
//!
//! # The nouns
//!
//! * A [`Request`] is one attempt: all that it needs, without access to the database. [`Sender`]
//!   takes it and returns an [`Outcome`]. [`http`] is the implementation.
//! * [`address_policy`] decides which addresses may be dialed. [`resolve`] resolves names, and
//!   [`look_ups`] gives each owner a share of it. [`dial`] opens connections, directly or through a
//!   [`proxy`], and [`tls`] secures them.
//! * The pool keeps the connections of each origin: those of HTTP/1.1 for one request at a time,
//!   those of HTTP/2 for many.
//!
//! # The flow
//!
//! resolve → check the address → dial → TLS → sign and send → classify the outcome. The crate knows
//! nothing of the database.

pub mod address_policy;
mod age;
mod answer;
mod bad_head;
pub mod dial;
mod exchange;
pub mod extras;
mod failure;
pub mod host_pattern;
pub mod http;
mod http1;
mod http2;
pub mod look_ups;
mod message;
mod origin;
mod places;
mod pool;
pub mod proxy;
mod race;
pub mod resolve;
mod route;
mod spelling;
mod stream;
pub mod tls;

use bytes::Bytes;
use delivery::{outcome::Outcome, response::ResponseRule};
use hyper::{
    StatusCode,
    header::{HeaderMap, HeaderValue},
};
use signature::{Profiles, Signer};
use std::{future::Future, sync::Arc, time::Duration};

/// One attempt: everything that the request needs, without access to the database.
#[derive(Debug, Clone)]
pub struct Request {
    /// The owner of the subscription, who has a share of the daemon's lookups. `None` stands for
    /// the daemon itself.
    pub owner: Option<Arc<str>>,
    /// The receiver's URL, parsed once per subscription.
    pub url: Arc<url::Url>,
    /// The header `webhook-id`.
    pub id: Arc<str>,
    /// The body. Every attempt of a delivery sends the same bytes.
    pub body: Bytes,
    pub content_type: HeaderValue,
    /// Headers of the body's format, if it has any.
    pub attributes: Option<Arc<HeaderMap>>,
    /// Headers that the subscription adds. They never replace a header of ours.
    pub headers: Option<Arc<HeaderMap>>,
    /// Names of those headers that contain upper case, as the subscription spells them.
    pub header_names: Option<Arc<[Box<str>]>>,
    /// `WebHook-Request-Origin` as agreed in the handshake. `None` if there was no handshake.
    pub origin: Option<HeaderValue>,
    /// The signature profiles.
    pub profiles: Profiles,
    /// The live keys, newest first.
    pub signers: Arc<[Signer]>,
    /// Name of the set of certificates for this receiver. `None` selects the default certificates.
    pub tls: Option<Arc<str>>,
    /// Timeout of the whole attempt, including the response's body.
    pub timeout: Duration,
    /// Which responses count as a delivery, and which are stored.
    pub response: ResponseRule,
    /// Header `traceparent`, if the event has one.
    pub traceparent: Option<Arc<str>>,
}

impl Request {
    /// Returns a request with a JSON body and default options.
    pub fn json(
        url: Arc<url::Url>,
        id: Arc<str>,
        body: Bytes,
        signers: Arc<[Signer]>,
        timeout: Duration,
    ) -> Self {
        let content_type = HeaderValue::from_static("application/json");
        Self {
            owner: None,
            url,
            id,
            body,
            content_type,
            attributes: None,
            headers: None,
            header_names: None,
            origin: None,
            profiles: Profiles::default(),
            signers,
            tls: None,
            timeout,
            response: ResponseRule::default(),
            traceparent: None,
        }
    }
}

/// An OPTIONS request that asks a receiver whether it accepts deliveries.
#[derive(Debug, Clone)]
pub struct Inquiry {
    /// As in [`Request`].
    pub owner: Option<Arc<str>>,
    pub url: Arc<url::Url>,
    /// The headers that ask for permission.
    pub questions: HeaderMap,
    /// Headers that the subscription adds. They never replace a header of ours.
    pub headers: Option<Arc<HeaderMap>>,
    /// Names of those headers that contain upper case, as the subscription spells them.
    pub header_names: Option<Arc<[Box<str>]>>,
    /// Name of the set of certificates for this receiver. `None` selects the default certificates.
    pub tls: Option<Arc<str>>,
    pub timeout: Duration,
}

/// Status and headers of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub status: StatusCode,
    pub headers: HeaderMap,
}

/// Makes attempts. Never fails: every failure is an [`Outcome`].
pub trait Sender: Send + Sync + 'static {
    fn send(&self, request: Request) -> impl Future<Output = Outcome> + Send;

    /// Sends an inquiry and returns the head of the response. The error is a text that any user may
    /// read.
    fn inquire(&self, inquiry: Inquiry) -> impl Future<Output = Result<Head, String>> + Send;
}
