//! The workers: tasks that make the attempts, each with many requests in flight.
//!
//! A worker turns a [`Start`] into an HTTP request (body, headers, signers), sends it, and returns
//! the outcome. It decides nothing about retries and keeps no state between attempts.
//!
//! There is one worker per core and not one task per attempt. An attempt is a few polls of a
//! future, and a task of its own would cost more than that.

use bytes::Bytes;
use delivery::{
    batch,
    body::{self, Rendered},
    identity::Identity,
    outcome::Outcome,
    scheduler::{RequestContent, Start},
    subscription::Verification,
};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use sender::{Request, Sender};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use traces::{Attempted, Traces};

/// Maximum number of outcomes that a worker returns at once.
const BATCH: usize = 64;

/// The key of an attempt, and its outcome.
pub type Finished = (usize, Outcome);

/// The workers. When this value is dropped, they finish the attempts in flight, and then end.
#[derive(Debug)]
pub struct LocalSenders {
    members: Vec<mpsc::UnboundedSender<Vec<Start>>>,
    next: usize,
}

impl LocalSenders {
    /// Starts `size` workers, at least one. Cancelling `abandon` drops the attempts in flight.
    pub fn start<S: Sender>(
        size: usize,
        sender: &Arc<S>,
        identity: &Arc<Identity>,
        traces: Option<&Arc<Traces>>,
        finished: &mpsc::UnboundedSender<Vec<Finished>>,
        abandon: &CancellationToken,
    ) -> Self {
        let members = (0..size.max(1)).map(|_| {
            let (starts, taken) = mpsc::unbounded_channel();
            let context = AttemptContext {
                sender: Arc::clone(sender),
                identity: Arc::clone(identity),
                traces: traces.map(Arc::clone),
            };
            let work = work(context, taken, finished.clone());
            tokio::spawn(abandon.clone().run_until_cancelled_owned(work));
            starts
        });
        Self { members: members.collect(), next: 0 }
    }

    /// Distributes attempts over the workers, in shares that are worth a wake-up.
    pub fn make(&mut self, starts: &mut Vec<Start>) {
        let share = starts.len().div_ceil(self.members.len()).max(1);
        while !starts.is_empty() {
            let rest = starts.split_off(share.min(starts.len()));
            let member = &self.members[self.next % self.members.len()];
            self.next += 1;
            // A worker ends only after its sender is dropped, or with the runtime.
            let _ = member.send(std::mem::replace(starts, rest));
        }
    }
}

/// The context in which a worker makes attempts.
struct AttemptContext<S> {
    sender: Arc<S>,
    identity: Arc<Identity>,
    /// `None` if spans are not collected.
    traces: Option<Arc<Traces>>,
}

async fn work<S: Sender>(
    context: AttemptContext<S>,
    mut starts: mpsc::UnboundedReceiver<Vec<Start>>,
    finished: mpsc::UnboundedSender<Vec<Finished>>,
) {
    let mut under_way = FuturesUnordered::new();
    let mut is_open = true;
    while is_open || !under_way.is_empty() {
        tokio::select! {
            taken = starts.recv(), if is_open => match taken {
                Some(taken) => under_way.extend(taken.into_iter().map(|start| attempt(&context, start))),
                None => is_open = false,
            },
            Some(first) = under_way.next(), if !under_way.is_empty() => {
                let mut done = vec![first];
                while done.len() < BATCH && let Some(Some(next)) = under_way.next().now_or_never() {
                    done.push(next);
                }
                if finished.send(done).is_err() {
                    return;
                }
            }
        }
    }
}

async fn attempt<S: Sender>(context: &AttemptContext<S>, start: Start) -> Finished {
    let AttemptContext { sender, identity, traces } = context;
    let Start { key, url, content, subscription, signers, number } = start;
    let shape = subscription.shape;
    let is_array = matches!(content, RequestContent::Batch(_));
    let (id, batch_id, rendered, traceparent) = match &content {
        RequestContent::One(message) => {
            let id = message.id();
            let batch_id = (message.changes() > 1).then(|| Arc::clone(&id));
            let rendered = message.rendered(shape, &identity.source).clone();
            (id, batch_id, rendered, message.event().traceparent.as_deref())
        }
        RequestContent::Batch(messages) => {
            let bodies =
                messages.iter().map(|message| message.rendered(shape, &identity.source).body.clone());
            let ids: Vec<Arc<str>> = messages.iter().map(|message| message.id()).collect();
            let body = batch::body(&bodies.collect::<Vec<Bytes>>());
            let id = batch::id(&ids);
            (Arc::clone(&id), Some(id), Rendered { body, headers: None }, None)
        }
    };
    let span = traces.as_ref().and_then(|traces| {
        let messages = match &content {
            RequestContent::One(message) => std::slice::from_ref(message),
            RequestContent::Batch(messages) => messages,
        };
        let body_bytes = rendered.body.len();
        let subscription_id = subscription.id;
        traces.begin(&Attempted { messages, subscription_id, url: &url, id: &id, body_bytes, number })
    });
    let request = Request {
        owner: Some(Arc::clone(&subscription.owner)),
        url,
        id,
        body: rendered.body,
        content_type: body::content_type(shape.format, is_array),
        attributes: rendered.headers,
        headers: subscription.headers.clone(),
        header_names: subscription.header_names.clone(),
        origin: (subscription.verification == Verification::Handshake).then(|| identity.origin.clone()),
        profiles: subscription.profiles,
        signers,
        tls: subscription.tls.clone(),
        timeout: subscription.timeout,
        response: subscription.response.clone(),
        traceparent: match &span {
            Some(span) => Some(span.traceparent()),
            None => traceparent.map(Arc::from),
        },
    };
    let outcome = sender.send(request).await;
    if let Some(span) = span {
        span.end(&outcome);
    }
    (key, Outcome { batch_id, ..outcome })
}
