//! The first window of a session: everything since the checkpoint.

use super::Large;
use crate::{
    outbox::{
        Error,
        extent::Order,
        pages::{self, Pages},
        poll::Cursor,
        recovered::Recovered,
    },
    router::{Revisions, Router},
    secret_store::SecretStore,
    subscriptions,
};
use database::Client;
use delivery::{snapshot::Snapshot, subscription::Subscriptions};
use std::sync::Arc;
use tracing::info;

/// Freezes a snapshot, reads the subscriptions in it, and measures the window between it and the
/// checkpoint.
pub(super) async fn open(
    client: &mut Client,
    secrets: &SecretStore,
    checkpoint: Snapshot,
) -> Result<(Cursor, Arc<Router>, Option<Large>), Error> {
    let frozen = pages::freeze(client).await?;
    let router = Arc::new(Router::new(subscriptions::load(&frozen.transaction, secrets, None).await?));
    let pages = Pages::open(&frozen, checkpoint, Order::Strict).await?;
    let recovered = Recovered::open(&frozen.transaction, pages.ids()).await?;
    // The subscriptions may have changed since the checkpoint, too.
    let mut revisions = Revisions::default();
    if let Some(first_change) = pages.first_change() {
        let changes = pages.changes(&frozen, first_change).await?;
        revisions = Revisions::new(&Subscriptions::new(), changes, router.subscriptions());
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
