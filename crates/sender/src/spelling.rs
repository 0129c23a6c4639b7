//! The spelling of header names on HTTP/1.1.
//!
//! Names of headers do not depend on case (RFC 9110, 5.1), but some receivers compare them as they
//! know them: `X-Hub-Signature-256`. hyper writes names in lower case, except those of a request
//! with its private extension for a proxy: hyper stores the spelling of a received message in it,
//! and writes a request that carries it in the same spelling. So this module lets hyper receive a
//! message with the names, over a pipe in memory, and takes its extension. HTTP/2 has lower case
//! only (RFC 9113, 8.2).

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, client::conn::http1, http::Extensions};
use hyper_util::rt::TokioIo;
use signature::{Profile, Profiles};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

/// Maximum number of spellings that are cached. Each belongs to some subscriptions.
const CACHED_MAX: usize = 10_000;

/// Known spellings by their names, separated by line breaks.
#[derive(Default)]
pub struct Spellings {
    known: RwLock<HashMap<String, Arc<Extensions>>>,
}

impl Spellings {
    /// Returns the extension for these names and for the headers of the profiles. Returns `None` if
    /// all are in lower case.
    pub async fn of(&self, names: Option<&Arc<[Box<str>]>>, profiles: Profiles) -> Option<Arc<Extensions>> {
        let of_profile = [(Profile::Github, "X-Hub-Signature-256"), (Profile::Stripe, "Stripe-Signature")];
        let of_profiles = of_profile.iter().filter(|(profile, _)| profiles.contains(*profile));
        if names.is_none() && of_profiles.clone().next().is_none() {
            return None;
        }
        let names = names.into_iter().flat_map(|names| names.iter().map(|name| &**name));
        let names: Vec<&str> = names.chain(of_profiles.map(|(_, name)| *name)).collect();
        let key = names.join("\n");
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if known.is_some() {
            return known;
        }
        // Boxed, because each attempt would keep room for it.
        let spelling = Arc::new(Box::pin(received(&names)).await?);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= CACHED_MAX {
            known.clear();
        }
        known.insert(key, Arc::clone(&spelling));
        Some(spelling)
    }
}

/// Returns the extensions of a message with these names, as hyper receives it. `None` if one of
/// them is not a name.
async fn received(names: &[&str]) -> Option<Extensions> {
    let mut message = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n".to_owned();
    for name in names {
        message.push_str(name);
        message.push_str(": \r\n");
    }
    message.push_str("\r\n");
    let (ours, mut theirs) = duplex(message.len().max(1024));
    let mut builder = http1::Builder::new();
    builder.preserve_header_case(true).max_headers(names.len() + 1);
    let (mut send, connection) = builder.handshake(TokioIo::new(ours)).await.ok()?;
    let answer = async {
        // hyper accepts a response only after a request. The pipe holds the whole message.
        theirs.read_u8().await?;
        theirs.write_all(message.as_bytes()).await
    };
    let request = Request::new(Empty::<Bytes>::new());
    let exchange = async { tokio::try_join!(async { Ok(send.send_request(request).await) }, answer) };
    let response = tokio::select! {
        exchanged = exchange => exchanged.ok()?.0.ok()?,
        // It ends only if the message is not valid.
        _ = connection => return None,
    };
    Some(response.into_parts().0.extensions)
}
