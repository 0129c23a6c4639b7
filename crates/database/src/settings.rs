//! The settings of the daemon's sessions.
//!
//! A DBA can set most parameters for a server, a database, or a role, and some change what the
//! daemon's statements mean: `row_security`, `search_path`, `bytea_output`,
//! `standard_conforming_strings`, `default_transaction_isolation`. So a session first gives every
//! parameter of those kinds its built-in default, and then sets what the daemon wants. Memory,
//! logging and other resources stay as the DBA has set them.

use crate::Purpose;
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

/// No session may time out or change its results. The daemon has limits of its own.
const OURS: &str = "\
    select pg_catalog.set_config(s.name, '0', false) from pg_catalog.pg_settings s where s.name = 'transaction_timeout'; \
    set search_path = pg_catalog; set timezone = 'UTC'; set client_min_messages = warning; set jit = off; \
    set plan_cache_mode = force_generic_plan; set synchronous_commit = off; \
    set tcp_keepalives_idle = 5; set tcp_keepalives_interval = 3; set tcp_keepalives_count = 3; \
    set tcp_user_timeout = 15000;";

/// The plans of the daemon's statements must not depend on statistics. ANALYZE may run on an empty
/// queue that holds a million rows a minute later, and a plan for the empty queue reads all of it
/// for each row. So only nested loops are left, which cost what the page is long: a merge join
/// reads the events from the first one on, and a hash join all of them. The statements decide the
/// order of the joins (`lateral (… offset 0)`) and which index fits. A bitmap is built in full
/// before the first row comes out.
const INDEXES_ONLY: &str = "set enable_seqscan = off; set enable_bitmapscan = off; set enable_sort = off; \
    set enable_incremental_sort = off; set enable_mergejoin = off; set enable_hashjoin = off; set enable_material = off;";

/// Applies the settings to a new session.
///
/// # Errors
/// The errors of the connection, and of a server that does not let this role set a parameter.
pub async fn apply(client: &Client, purpose: Purpose) -> Result<(), Error> {
    let plans = match purpose {
        Purpose::Reader | Purpose::Filters | Purpose::Queue | Purpose::Ledger | Purpose::Backfill => {
            INDEXES_ONLY
        }
        _ => "",
    };
    client.batch_execute(NO_LIMITS).await?;
    client.batch_execute(&format!("{DEFAULTS}{OURS}{plans}")).await
}
