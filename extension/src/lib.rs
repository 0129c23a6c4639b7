//! pg_webhook: the half that runs in Postgres. This file lists its modules and the order of its SQL
//! files.

use pgrx::prelude::*;

mod arguments;
mod backfill;
mod capture;
mod catalogue;
mod compat;
mod daemon_locks;
mod definition;
mod delivery;
mod documentation;
mod dry_run;
mod emit;
mod encoding;
mod error;
mod filter;
mod former;
mod gate;
mod guc;
mod hooks;
mod json;
mod limits;
mod memory;
mod order;
mod outbox;
mod owner;
mod owner_name;
mod priority;
mod protect;
mod rights;
mod sealing;
mod signing;
mod subscribe;
mod subtransaction;
mod watch;

::pgrx::pg_module_magic!(name, version);

#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    memory::on_shortage(capture::free_caches);
    guc::define();
    hooks::install();
}

// Each file requires the one before it (filter, capture, gate, daemon_locks, and priority have
// their SQL in their modules). The script of an installation, and therefore that of an update, has
// the same order in every build.
extension_sql_file!("../../sql/tables.sql", name = "tables", bootstrap);
extension_sql_file!("../../sql/watches.sql", name = "watches", requires = ["tables"]);
extension_sql_file!("../../sql/cursor.sql", name = "cursor", requires = ["watches"]);
extension_sql_file!("../../sql/owners.sql", name = "owners", requires = ["priority"]);
extension_sql_file!("../../sql/subscription.sql", name = "subscription", requires = ["owners"]);
extension_sql_file!("../../sql/limits.sql", name = "limits", requires = ["subscription"]);
extension_sql_file!("../../sql/matching.sql", name = "matching", requires = ["limits"]);
extension_sql_file!("../../sql/scope.sql", name = "scope", requires = ["matching"]);
extension_sql_file!("../../sql/retention.sql", name = "retention", requires = ["scope"]);
extension_sql_file!("../../sql/pending.sql", name = "pending", requires = ["retention"]);
extension_sql_file!("../../sql/views.sql", name = "views", requires = ["pending"]);
extension_sql_file!("../../sql/health.sql", name = "health", requires = ["views"]);
extension_sql_file!("../../sql/restore.sql", name = "restore", requires = ["health"]);
extension_sql_file!("../../sql/watching.sql", name = "watching", requires = ["restore"]);
extension_sql_file!("../../sql/offered_types.sql", name = "offered_types", requires = ["watching"]);
extension_sql_file!("../../sql/functions.sql", name = "functions", requires = ["offered_types"]);
extension_sql_file!("../../sql/leaving.sql", name = "leaving", requires = ["functions"]);
extension_sql_file!("../../sql/integrity.sql", name = "integrity", requires = ["leaving"]);
extension_sql_file!("../../sql/check.sql", name = "check", requires = ["integrity"]);
extension_sql_file!("../../sql/delivery.sql", name = "delivery", requires = ["check"]);
extension_sql_file!("../../sql/admin.sql", name = "admin", requires = ["delivery"]);
extension_sql_file!("../../sql/owned_events.sql", name = "owned_events", requires = ["admin"]);
extension_sql_file!("../../sql/tokens.sql", name = "tokens", requires = ["owned_events"]);
extension_sql_file!("../../sql/portal.sql", name = "portal", requires = ["tokens"]);
extension_sql_file!("../../sql/value_schema.sql", name = "value_schema", requires = ["portal"]);
extension_sql_file!("../../sql/event_schema.sql", name = "event_schema", requires = ["value_schema"]);
extension_sql_file!("../../sql/documentation.sql", name = "documentation", requires = ["event_schema"]);
extension_sql_file!("../../sql/grants.sql", name = "grants", finalize);
