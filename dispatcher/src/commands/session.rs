//! Sessions of commands that act with the rights of the role that connects.

use crate::commands::{Error, terminal::clean};
use database::{self, Client, EXTENSION_SCHEMA, Purpose, Target, Text, Watch};
use tokio_postgres::{
    error::SqlState,
    types::{FromSqlOwned, ToSql},
};

pub type Argument<'a> = &'a (dyn ToSql + Sync);

/// A session of the role that connects.
pub struct ClientSession {
    pub client: Client,
    /// The schema of the extension's functions, quoted.
    pub schema: String,
}

impl ClientSession {
    /// # Errors
    /// The database cannot be reached, or lacks the extension.
    pub async fn open(target: &Target) -> Result<Self, Error> {
        let client = database::open_session(target, Purpose::Command, Watch::default()).await?;
        let found = client.query_opt(EXTENSION_SCHEMA, &[]).await.map_err(explain)?;
        let schema = found.ok_or(database::Error::ExtensionMissing)?.try_get(0).map_err(explain)?;
        Ok(Self { client, schema })
    }

    /// Calls a function of the API. Returns its result as text.
    pub async fn call(&self, call: &str, arguments: &[Argument<'_>]) -> Result<Option<String>, Error> {
        let statement = format!("select {}.{call}", self.schema);
        self.value(&statement, arguments).await
    }

    /// Returns the one value of a query.
    pub async fn value<T: FromSqlOwned>(&self, query: &str, arguments: &[Argument<'_>]) -> Result<T, Error> {
        self.client.query_one(query, arguments).await.and_then(|row| row.try_get(0)).map_err(explain)
    }

    /// Returns rows as JSON texts.
    pub async fn rows(&self, query: &str, arguments: &[Argument<'_>]) -> Result<Vec<String>, Error> {
        let statement = format!("select row_to_json(r)::text from ({query}) r");
        let rows = self.client.query(&statement, arguments).await.map_err(explain)?;
        rows.iter().map(|row| row.try_get(0).map(|Text(text)| text).map_err(explain)).collect()
    }
}

/// Returns the database's message with its hint, in one line.
pub fn explain(error: tokio_postgres::Error) -> Error {
    let Some(said) = error.as_db_error() else { return database::Error::of_statement(error).into() };
    match *said.code() {
        SqlState::UNDEFINED_TABLE | SqlState::INVALID_SCHEMA_NAME => database::Error::ExtensionMissing.into(),
        _ => {
            let hint = said.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
            Error::Refused { message: clean(&format!("{}{hint}", said.message())) }
        }
    }
}
