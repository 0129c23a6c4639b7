//! The settings of the daemon's sessions.
//!
//! A DBA can set most parameters for a server, a database, or a role, and some change what the
//! daemon's statements mean: `row_security`, `search_path`, `bytea_output`,
//! `standard_conforming_strings`, `default_transaction_isolation`. So a session first gives every
//! parameter of those kinds its built-in default, and then sets what the daemon wants. Memory,
//! logging and other resources stay as the DBA has set them.

use super::Purpose;
use tokio_postgres::{Client, Error};

/// Sent first and alone: a `statement_timeout` of 1 ms must not end the longer statements below,
/// and a default of SERIALIZABLE READ ONLY DEFERRABLE would make them wait for other transactions.
const NO_LIMITS: &str = "\
    set client_min_messages = warning; set statement_timeout = 0; set lock_timeout = 0; set idle_in_transaction_session_timeout = 0; \
    set idle_session_timeout = 0; set search_path = pg_catalog; set default_transaction_isolation = 'read committed'; \
    set default_transaction_read_only = off; set default_transaction_deferrable = off;";

/// Gives the parameters that change the meaning or the plan of a statement their built-in
/// defaults. The driver itself has set `client_encoding`.
const DEFAULTS: &str = "\
    select pg_catalog.set_config(s.name, s.boot_val, false) from pg_catalog.pg_settings s \
    where s.context = 'user' and s.boot_val is not null and s.setting is distinct from s.boot_val \
      and s.source not in ('default', 'dynamic default', 'client', 'interactive', 'session', 'override') \
      and s.name not in ('client_encoding', 'application_name') \
      and (s.category ~ '^(Client Connection Defaults|Version and Platform Compatibility|Query Tuning|Developer Options|Error Handling)' \
           or s.name ~ '^plpgsql[.]');";

/// Nothing may time out or reshape these sessions; the daemon bounds itself.
const OURS: &str = "\
    select pg_catalog.set_config(s.name, '0', false) from pg_catalog.pg_settings s where s.name = 'transaction_timeout'; \
    set search_path = pg_catalog; set timezone = 'UTC'; set client_min_messages = warning; set jit = off; \
    set plan_cache_mode = force_generic_plan; set synchronous_commit = off; \
    set tcp_keepalives_idle = 5; set tcp_keepalives_interval = 3; set tcp_keepalives_count = 3; \
    set tcp_user_timeout = 15000;";

/// A partition that was empty when it was last vacuumed would have a sequential scan planned for it, and a bitmap is built
/// in full before the first row comes out. A merge join reads the events from the first one on for every page of a
/// backlog, a hash join all of them: only a nested loop costs what the page is long.
const INDEXES_ONLY: &str = "set enable_seqscan = off; set enable_bitmapscan = off; set enable_sort = off; \
    set enable_mergejoin = off; set enable_hashjoin = off;";

/// Applies them to a new session.
///
/// # Errors
/// Those of the connection, and of a server that does not let this role set a parameter.
pub async fn apply(client: &Client, purpose: Purpose) -> Result<(), Error> {
    let plans = if matches!(purpose, Purpose::Reader | Purpose::Queue) { INDEXES_ONLY } else { "" };
    client.batch_execute(NO_LIMITS).await?;
    client.batch_execute(&format!("{DEFAULTS}{OURS}{plans}")).await
}
