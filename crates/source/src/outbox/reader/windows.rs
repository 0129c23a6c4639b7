//! Large windows: those of many events, or with changes of who gets events.

use super::Reader;
use crate::{
    outbox::{
        Error,
        extent::Order,
        pages::{self, Frozen, Pages},
        poll::Cursor,
        recovered::Recovered,
    },
    router::{Revisions, Router},
    secret_store::SecretStore,
    subscriptions,
};
use database::{Client, schema::Schema};
use delivery::{
    feed::Feed,
    scope::InternalTypes,
    snapshot::Snapshot,
    subscription::{Subscriptions, Update},
};
use std::{collections::BTreeSet, sync::Arc};
use tracing::{debug, info};

/// Maximum number of changed subscriptions that are read one by one. If more change, the loop reads
/// all.
const CHANGED_MAX: usize = 1000;

/// A window that is read in pages, because it has many events or a change of subscriptions.
pub(super) struct Large {
    pub(super) window: u64,
    pub(super) pages: Pages,
    /// The routing table at the end of the window, and the changes before.
    router: Arc<Router>,
    revisions: Revisions,
    recovered: Option<Recovered>,
}

/// Freezes a snapshot, reads the subscriptions in it, and measures the window between it and the
/// checkpoint.
pub(super) async fn recover(
    client: &mut Client,
    schema: Schema,
    secrets: &SecretStore,
    checkpoint: Snapshot,
) -> Result<(Cursor, Arc<Router>, Option<Large>), Error> {
    let frozen = pages::freeze(client, schema).await?;
    let mut router = Router::new(subscriptions::load(&frozen.transaction, schema, secrets, None).await?);
    router.set_internal(Arc::new(subscriptions::internal_types(&frozen.transaction, schema).await?));
    let router = Arc::new(router);
    let pages = Pages::open(&frozen, checkpoint, Order::Strict).await?;
    let recovered = Recovered::open(&frozen.transaction, pages.ids()).await?;
    // The subscriptions may have changed since the checkpoint, too.
    let mut revisions = Revisions::default();
    if let Some(first_change) = pages.first_change() {
        let changes = pages.changes(&frozen, first_change).await?;
        revisions = Revisions::new(&Subscriptions::new(), changes, router.subscriptions())
            .with_internal(pages.changed_types(&frozen, first_change).await?);
    }
    let cursor = Cursor::new(frozen.snapshot.clone(), frozen.ring);
    frozen.transaction.commit().await?;
    info!(events = pages.rows(), subscriptions = router.subscriptions().len(), "outbox.recovers");
    let large = (pages.rows() > 0).then(|| Large {
        window: 0,
        pages,
        router: Arc::clone(&router),
        revisions,
        recovered: Some(recovered),
    });
    Ok((cursor, router, large))
}

impl Reader {
    /// Freezes a window that will be read in pages, with the subscriptions in the same snapshot.
    /// `reloads` reads all subscriptions, also without a change in the window.
    pub(super) async fn open_large(&mut self, reloads: bool) -> Result<(), Error> {
        let (mut revisions, mut update, mut internal) = (Revisions::default(), None, None);
        let (pages, snapshot, ring) = {
            let frozen = pages::freeze(&mut self.client, self.schema).await?;
            // A subscription with an order must not get a later commit before an earlier bulk load.
            let order = if self.router.has_order() { Order::Strict } else { Order::BulkLast };
            let pages = Pages::open(&frozen, self.cursor.snapshot.clone(), order).await?;
            if reloads || pages.first_change().is_some() {
                let (changes, types) = match pages.first_change() {
                    Some(first) => {
                        (pages.changes(&frozen, first).await?, pages.changed_types(&frozen, first).await?)
                    }
                    None => (Vec::new(), InternalTypes::new()),
                };
                if !types.is_empty() {
                    let now = subscriptions::internal_types(&frozen.transaction, self.schema).await?;
                    internal = Some(Arc::new(now));
                }
                let changed: BTreeSet<i64> = changes.iter().map(|change| change.subscription_id).collect();
                let few = (!reloads && changed.len() <= CHANGED_MAX)
                    .then(|| changed.into_iter().collect::<Vec<_>>());
                let mut loaded =
                    subscriptions::load(&frozen.transaction, self.schema, &self.secrets, few.as_deref())
                        .await?;
                self.filter.slow_filters.mark(few.as_deref(), &mut loaded);
                revisions =
                    Revisions::new(self.router.subscriptions(), changes, &loaded).with_internal(types);
                let new = match few {
                    Some(few) => Update::of(&few, loaded),
                    None => Update::All(Arc::new(loaded)),
                };
                // A window that is still being read keeps the router of its own snapshot.
                let router = Arc::make_mut(&mut self.router);
                router.update(&new);
                if let Some(internal) = &internal {
                    router.set_internal(Arc::clone(internal));
                }
                update = Some(new);
            }
            let Frozen { transaction, snapshot, ring, .. } = frozen;
            transaction.commit().await?;
            (pages, snapshot, ring)
        };
        debug!(
            events = pages.rows(),
            changes_subscriptions = pages.first_change().is_some(),
            "outbox.large_window"
        );
        self.advance(snapshot, ring);
        if !self.is_on_disk().await? {
            return Ok(());
        }
        if let Some(internal) = internal {
            self.hand_on(Feed::InternalTypes(internal)).await;
        }
        if let Some(update) = update {
            self.hand_on_subscriptions(update).await;
        }
        if pages.rows() > 0 {
            let router = Arc::clone(&self.router);
            self.large.push_back(Large {
                window: self.next_window,
                pages,
                router,
                revisions,
                recovered: None,
            });
            self.next_window += 1;
        }
        Ok(())
    }

    /// Sends the next page on. Returns the window unless it has been read to its end.
    pub(super) async fn read_page(&mut self, mut large: Large) -> Result<Option<Large>, Error> {
        let events = large.pages.next(&self.client).await?;
        let is_end = events.is_empty();
        let end = is_end.then(|| large.pages.upto().clone());
        let Large { window, router, revisions, recovered, .. } = &large;
        self.hand_on_events(*window, events, (router, revisions), recovered.as_ref(), end).await?;
        Ok((!is_end).then_some(large))
    }
}
