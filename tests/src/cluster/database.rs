//! One database of a cluster: sessions, statements, queries.

use super::Cluster;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_postgres::{Client, Config, NoTls};

/// One database of a cluster.
#[derive(Debug, Clone)]
pub struct Database {
    pub cluster: Arc<Cluster>,
    pub name: String,
}

impl Database {
    /// Returns the URL for the daemon: `postgresql://postgres@127.0.0.1:port/name`.
    pub fn url(&self) -> String {
        self.url_as("postgres")
    }

    pub fn url_as(&self, role: &str) -> String {
        format!("postgresql://{role}@127.0.0.1:{}/{}", self.cluster.port, self.name)
    }

    /// Opens a session.
    ///
    /// # Panics
    /// If it cannot connect.
    pub async fn client(&self) -> Client {
        self.try_client("postgres").await.unwrap_or_else(|e| panic!("cannot connect to {}: {e}", self.url()))
    }

    /// Opens a session of another role.
    ///
    /// # Errors
    /// If it cannot connect.
    pub async fn try_client(&self, role: &str) -> Result<Client, tokio_postgres::Error> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.cluster.port).user(role).dbname(&self.name);
        let (client, connection) = config.application_name("e2e").connect(NoTls).await?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }

    /// Runs statements in a session of their own.
    ///
    /// # Panics
    /// If one fails.
    pub async fn run(&self, statements: &str) {
        let client = self.client().await;
        if let Err(e) = client.batch_execute(statements).await {
            panic!("{statements}\n{}", describe(&e));
        }
    }

    /// Returns the single value of a query as text, or `None` for null or no row.
    ///
    /// # Panics
    /// If the query fails.
    pub async fn text(&self, query: &str) -> Option<String> {
        value(&self.client().await, query).await
    }

    /// Returns the single number of a query.
    ///
    /// # Panics
    /// If the query fails or returns none.
    pub async fn number(&self, query: &str) -> i64 {
        let text = self.text(query).await.unwrap_or_else(|| panic!("no value: {query}"));
        text.parse().unwrap_or_else(|_| panic!("not a number: {text} from {query}"))
    }

    /// Waits until a query returns true, for states of the database that nothing announces.
    ///
    /// # Panics
    /// If it does not within `deadline`.
    pub async fn until(&self, query: &str, deadline: Duration) {
        assert!(self.becomes(query, deadline).await, "not true within {deadline:?}: {query}");
    }

    /// Reports whether a query returns true within `deadline`.
    ///
    /// # Panics
    /// If the query fails.
    pub async fn becomes(&self, query: &str, deadline: Duration) -> bool {
        let client = self.client().await;
        let end = Instant::now() + deadline;
        loop {
            let asked = Instant::now();
            if value(&client, query).await.as_deref() == Some("t") {
                return true;
            }
            if Instant::now() > end {
                return false;
            }
            // Polling takes at most half of the time, so that it does not slow down the awaited
            // work.
            tokio::time::sleep(asked.elapsed().max(Duration::from_millis(5))).await;
        }
    }
}

/// Returns the single value of a query, as text.
///
/// # Panics
/// If the query fails.
pub async fn value(client: &Client, query: &str) -> Option<String> {
    use tokio_postgres::SimpleQueryMessage::Row;
    let answer = client.simple_query(query).await.unwrap_or_else(|e| panic!("{query}\n{}", describe(&e)));
    answer
        .iter()
        .find_map(|message| if let Row(row) = message { Some(row.get(0)) } else { None })?
        .map(str::to_owned)
}

/// Formats an error with the server's message, which `Display` leaves out.
pub fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!(
            "{} {}{}",
            db.code().code(),
            db.message(),
            db.hint().map(|hint| format!(" HINT: {hint}")).unwrap_or_default()
        ),
        None => error.to_string(),
    }
}
