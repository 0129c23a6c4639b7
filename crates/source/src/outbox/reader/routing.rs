//! Routes events, and sends them to the scheduler.

use super::{DELIVERY_REQUESTED, Reader};
use crate::{
    outbox::{
        BATCH_TARGETS_MAX, Error,
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
use std::sync::Arc;

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
        let mut events = events.into_iter().peekable();
        loop {
            let mut batch = Batch { window, is_recovered, ..Batch::default() };
            while batch.targets.len() < BATCH_TARGETS_MAX
                && let Some(event) = events.next()
            {
                self.add(&mut batch, event, tables);
            }
            if let Some(recovered) = recovered {
                recovered.filter_out(&self.client, &mut batch).await?;
            }
            self.filter.filter_out(&self.client, &mut batch, tables).await?;
            let is_last = events.peek().is_none();
            batch.end = end.clone().filter(|_| is_last);
            self.hand_on(Feed::Batch(batch)).await;
            if is_last {
                return Ok(());
            }
        }
    }

    fn add(&self, batch: &mut Batch, event: Event, (router, revisions): (&Router, &Revisions)) {
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
        let start = batch.targets.len();
        router.route_revised(revisions, &event, &mut batch.targets);
        if batch.targets.len() > start {
            batch.events.push((Arc::new(Message::new(event, &self.budget)), batch.targets.len()));
        }
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
