//! The starting point of nearly every test: a cluster, a database with one watched table, a
//! receiver.

use crate::{
    cluster::{Cluster, Database},
    receiver::{Keep, Receiver, SECRET},
};
use std::{sync::Arc, time::Duration};
use tokio_postgres::Client;

/// A server, a database with the extension and a watched table `public.orders`, and a receiver.
#[derive(Debug)]
pub struct World {
    pub database: Database,
    pub cluster: Arc<Cluster>,
    pub receiver: Receiver,
    /// A session of the application.
    pub app: Client,
}

/// The table that tests write to.
pub const ORDERS: &str = "create table orders (id bigint primary key, customer text not null, total numeric not null default 0, note text)";

impl World {
    /// Creates a world whose receiver keeps whole requests.
    ///
    /// # Panics
    /// If any part does not start.
    pub async fn new() -> Self {
        Self::with(Keep::Requests, &[]).await
    }

    /// Creates a world with these settings of the server.
    ///
    /// # Panics
    /// If any part does not start.
    pub async fn with(keep: Keep, settings: &[&str]) -> Self {
        let cluster = Cluster::start_with(settings).await;
        let database = cluster.database("app").await;
        let app = database.client().await;
        app.batch_execute(&format!("{ORDERS}; select webhook_watch('orders', noun => 'order')"))
            .await
            .expect("orders can be watched");
        Self { receiver: Receiver::start_with(keep).await, database, cluster, app }
    }

    /// Makes all orders from now on belong to one owner.
    ///
    /// # Panics
    /// If Postgres rejects it.
    pub async fn orders_belong_to(&self, owner: &str) {
        self.database
            .run(&format!(
                "create function owner_of(orders) returns text language sql immutable return '{owner}';
                 select webhook_watch('orders', noun => 'order', owner_function => 'owner_of')"
            ))
            .await;
    }

    /// Subscribes a path of the receiver to every event; returns the subscription's id.
    ///
    /// # Panics
    /// If Postgres rejects it.
    pub async fn subscribe(&self, path: &str) -> i64 {
        self.subscribe_with(path, "").await
    }

    /// Subscribes with more arguments, such as `retry => '{1s}'`.
    ///
    /// # Panics
    /// If Postgres rejects it.
    pub async fn subscribe_with(&self, path: &str, arguments: &str) -> i64 {
        self.subscribe_url(&self.receiver.url(path), arguments).await
    }

    /// Subscribes any URL.
    ///
    /// # Panics
    /// If Postgres rejects it.
    pub async fn subscribe_url(&self, url: &str, arguments: &str) -> i64 {
        let comma = if arguments.is_empty() { "" } else { ", " };
        self.database
            .number(&format!(
                "select id from webhook_subscribe('{url}', secret => '{SECRET}'{comma}{arguments})"
            ))
            .await
    }

    /// Gives every subscription the scope `all`, as subscriptions of version 0.2 have. The orders
    /// of the world have no owner.
    ///
    /// # Panics
    /// If the statement fails.
    pub async fn widen_scopes(&self) {
        self.database.run("update webhook.subscription set scope = 'all' where scope <> 'all'").await;
    }

    /// Inserts orders `first..first + count`, each in a transaction of its own.
    ///
    /// # Panics
    /// If an insert fails.
    pub async fn insert_orders(&self, first: i64, count: i64) {
        let insert =
            self.app.prepare("insert into orders values ($1, 'c', 1, null)").await.expect("it parses");
        for id in first..first + count {
            self.app.execute(&insert, &[&id]).await.expect("it can be inserted");
        }
    }

    /// Returns the public ids of all events in the outbox whose type matches a `like` pattern.
    ///
    /// # Panics
    /// If the query fails.
    pub async fn event_ids(&self, like: &str) -> std::collections::HashSet<String> {
        let rows = self
            .app
            .query("select webhook.public_id(id, created_at) from webhook.event where type like $1", &[&like])
            .await
            .expect("the outbox can be read");
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Waits until everything is delivered and written: nothing pending, nothing queued.
    ///
    /// # Panics
    /// If that is not so within `deadline`.
    pub async fn settled(&self, deadline: Duration) {
        let all = "select not exists (select from webhook.delivery where state <> 'delivered')";
        if !self.database.becomes(all, deadline).await {
            let rest = "select count(*) || ' not delivered, such as ' || min(d::text) from webhook.delivery d where state <> 'delivered'";
            let queue = "select string_agg(q::text, ' ') from (select * from webhook.queue order by event_id limit 3) q";
            let (rest, queue) = (self.database.text(rest).await, self.database.text(queue).await);
            panic!("not settled within {deadline:?}: {rest:?}; queue: {queue:?}");
        }
    }
}
