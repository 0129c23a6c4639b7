//! Routes events, and sends them to the scheduler.

use super::{DELIVERY_REQUESTED, Reader};
use crate::{
    outbox::{
        BATCH_TARGETS_MAX, Error,
        filter_queue::Portion,
        recovered::Recovered,
        requested::{Requested, requested},
    },
    router::{Revisions, Router},
};
use delivery::{
    event::Event,
    feed::{Batch, Feed, VerificationInput},
    message::Message,
    snapshot::Snapshot,
    subscription::{Subscriptions, Update},
};
use std::{collections::HashSet, sync::Arc};

impl Reader {
    /// Routes events and sends them on, in as many batches as their deliveries need.
    pub(super) async fn hand_on_events(
        &mut self,
        window: u64,
        events: Vec<Event>,
        tables: (&Router, &Revisions),
        recovered: Option<&Recovered>,
        end: Option<Snapshot>,
    ) -> Result<(), Error> {
        let is_recovered = recovered.is_some();
        if let Some(last) = events.last() {
            self.highest.note(last.id);
        }
        self.filter.prepare(&self.client, tables).await?;
        let mut events = events.into_iter().peekable();
        loop {
            let new = || Batch { window, is_recovered, ..Batch::default() };
            let (mut batch, mut part) = (new(), Portion { batch: new(), asked: Vec::new() });
            while batch.targets.len() + part.batch.targets.len() < BATCH_TARGETS_MAX
                && let Some(event) = events.next()
            {
                self.add(&mut batch, &mut part, event, tables);
            }
            let is_last = events.peek().is_none();
            if let Some(recovered) = recovered {
                // The scheduler must have all recovered deliveries before the first new one. So
                // these do not take the filter queue.
                recovered.filter_out(&self.client, &mut batch).await?;
                recovered.filter_out(&self.client, &mut part.batch).await?;
                let left: HashSet<(i64, i64)> = part.batch.pairs().collect();
                part.asked.retain(|pair| left.contains(&(pair.event_id, pair.subscription_id)));
                self.filter.decide(&self.client, &mut part).await?;
                self.filter_queue.skip();
                part.batch.end = end.clone().filter(|_| is_last);
                self.hand_on(Feed::Batch(batch)).await;
                self.hand_on(Feed::Batch(part.batch)).await;
            } else {
                let end = end.clone().filter(|_| is_last);
                self.hand_on_parts(batch, part, end).await;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Sends the decided deliveries to the scheduler, and the others into the filter queue. The end
    /// of a window follows its last part.
    async fn hand_on_parts(&mut self, mut batch: Batch, mut part: Portion, end: Option<Snapshot>) {
        let has_part = !part.batch.targets.is_empty();
        let is_queued = has_part || (end.is_some() && self.filter_queue.has_window(batch.window));
        *(if is_queued { &mut part.batch.end } else { &mut batch.end }) = end;
        self.hand_on(Feed::Batch(batch)).await;
        if is_queued {
            tokio::select! {
                () = self.filter_queue.send(part) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    fn add(
        &mut self,
        batch: &mut Batch,
        part: &mut Portion,
        event: Event,
        (router, revisions): (&Router, &Revisions),
    ) {
        if &*event.event_type == DELIVERY_REQUESTED {
            match requested(&event) {
                Some(Requested::Delivery(request)) => batch.requests.push(request),
                Some(Requested::Backlog(subscription_id)) => batch.backlogs.push(subscription_id),
                Some(Requested::TryNow(wanted)) => {
                    batch.tries.push(wanted);
                    let _ = self.verification.send(VerificationInput::Wanted(wanted.subscription_id));
                }
                None => {}
            }
            return;
        }
        if event.is_ping()
            && let Some(id) = event.subscription_id
        {
            let _ = self.verification.send(VerificationInput::Wanted(id));
        }
        let start = part.batch.targets.len();
        let mut targets = std::mem::take(&mut self.targets);
        let document = self.filter.document(&event);
        let of_filters = (&event, document.as_ref());
        router.route_revised(revisions, &event, document.as_ref(), &mut targets);
        self.filter.select(of_filters, (router, revisions), &mut targets, part, &mut self.filter_queue);
        drop(document);
        let is_in_part = part.batch.targets.len() > start;
        if !targets.is_empty() || is_in_part {
            let message = Arc::new(Message::new(event, &self.budget));
            if is_in_part {
                part.batch.events.push((Arc::clone(&message), part.batch.targets.len()));
            }
            if !targets.is_empty() {
                batch.targets.append(&mut targets);
                batch.events.push((message, batch.targets.len()));
            }
        }
        targets.clear();
        self.targets = targets;
    }

    /// Reports the subscriptions that are held because of the cost of their filters.
    pub(super) async fn hold_overdue(&mut self) {
        let mut table = Subscriptions::clone(self.router.subscriptions());
        self.filter.slow_filters.mark(None, &mut table);
        let update = Update::All(Arc::new(table));
        Arc::make_mut(&mut self.router).update(&update);
        self.hand_on_subscriptions(update).await;
    }

    pub(super) async fn hand_on_subscriptions(&mut self, update: Update) {
        // The task ends with the session, as the scheduler does.
        let _ = self.verification.send(VerificationInput::Subscriptions(update.clone()));
        self.hand_on(Feed::Subscriptions(update)).await;
    }

    /// Waits for space in the channel. The end of the session ends the wait.
    pub(super) async fn hand_on(&mut self, feed: Feed) {
        tokio::select! {
            sent = self.feed.send(feed) => if sent.is_err() { self.stop.cancel() },
            () = self.stop.cancelled() => {}
        }
    }
}
