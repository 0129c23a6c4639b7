//! A receiver's record of its requests, with a verdict on each.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use standardwebhooks::Webhook;
use std::{
    collections::{HashMap, HashSet},
    time::{Instant, SystemTime},
};

/// One request, as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    pub path: String,
    pub arrived: Instant,
    pub arrived_at: SystemTime,
    /// Names as they were spelled on the wire.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    /// The verdict of the standardwebhooks crate.
    pub verified: Result<(), String>,
    /// The time of the answer, just before the first byte, and its status. `None` if there is no
    /// answer yet, or it is not valid HTTP.
    pub answered: Option<(Instant, u16)>,
}

impl Received {
    /// Returns a header's value; names are compared without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Returns `webhook-id`.
    ///
    /// # Panics
    /// If there is none.
    pub fn id(&self) -> &str {
        self.header("webhook-id").expect("a request has a webhook-id")
    }

    /// Returns `webhook-timestamp`, in unix seconds.
    ///
    /// # Panics
    /// If it is missing or no number.
    pub fn timestamp(&self) -> i64 {
        let text = self.header("webhook-timestamp").expect("a request has a webhook-timestamp");
        text.parse().expect("it is a number")
    }

    /// Returns the status of the answer, if there was one.
    pub fn status(&self) -> Option<u16> {
        self.answered.map(|(_, status)| status)
    }

    /// Returns the body as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

/// Verifies a request with the judge: the official library of another author.
pub fn verify(secret: &str, headers: &[(String, String)], body: &[u8]) -> Result<(), String> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|e| e.to_string())?;
        if map.insert(name.clone(), HeaderValue::from_str(value).map_err(|e| e.to_string())?).is_some() {
            return Err(format!("header {name} came twice"));
        }
    }
    let judge = Webhook::new(secret).map_err(|e| e.to_string())?;
    judge.verify(body, &map).map_err(|e| e.to_string())
}

/// How much the receiver records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Whole requests.
    Requests,
    /// Ids and counts, for large numbers of requests.
    Ids,
}

/// Everything recorded so far.
#[derive(Debug)]
pub struct Record {
    pub keep: Keep,
    pub requests: Vec<Received>,
    /// Requests that were not POSTs, such as the OPTIONS of a handshake.
    pub others: Vec<Received>,
    /// The number of requests per path and `webhook-id`.
    ids: HashMap<String, HashMap<String, u32>>,
    pub total: u64,
    /// The judge's message for each rejected request.
    pub rejected: Vec<String>,
}

impl Record {
    pub fn new(keep: Keep) -> Self {
        Self {
            keep,
            requests: Vec::new(),
            others: Vec::new(),
            ids: HashMap::new(),
            total: 0,
            rejected: Vec::new(),
        }
    }

    /// Adds a request. Returns its index, if it is kept, and the number of requests with this id on
    /// this path so far, including this one.
    pub fn add(&mut self, request: Received) -> (Option<usize>, u32) {
        self.total += 1;
        if let Err(why) = &request.verified {
            self.rejected.push(format!("{} {:?}: {why}", request.path, request.header("webhook-id")));
        }
        let id = request.header("webhook-id").unwrap_or_default().to_owned();
        let ids = match self.ids.get_mut(&request.path) {
            Some(ids) => ids,
            None => self.ids.entry(request.path.clone()).or_default(),
        };
        let count = ids.entry(id).or_default();
        *count += 1;
        let count = *count;
        if self.keep == Keep::Ids {
            return (None, count);
        }
        self.requests.push(request);
        (Some(self.requests.len() - 1), count)
    }

    /// Records the answer to the request at index `at`.
    pub fn answered(&mut self, at: Option<usize>, status: Option<u16>) {
        if let Some(request) = at.and_then(|at| self.requests.get_mut(at)) {
            request.answered = status.map(|status| (Instant::now(), status));
        }
    }

    /// Returns the number of different events that arrived on this path.
    pub fn distinct(&self, path: &str) -> usize {
        self.ids.get(path).map_or(0, HashMap::len)
    }

    /// Returns the ids of the different events that arrived on this path.
    pub fn ids(&self, path: &str) -> HashSet<String> {
        self.ids.get(path).map(|ids| ids.keys().cloned().collect()).unwrap_or_default()
    }

    /// Returns the number of requests on this path beyond the first of each event.
    pub fn duplicates(&self, path: &str) -> u64 {
        self.ids.get(path).map_or(0, |ids| ids.values().map(|&n| u64::from(n) - 1).sum())
    }

    /// Returns the requests on this path, in order of arrival.
    pub fn at<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Received> {
        self.requests.iter().filter(move |request| request.path == path)
    }
}
