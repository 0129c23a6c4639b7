//! pg_webhook: the half that lives in Postgres. Table of contents.

use pgrx::prelude::*;

mod definition;
mod delivery;
mod emit;
mod error;
mod rights;
mod signing;
mod subscribe;
mod watch;

::pgrx::pg_module_magic!(name, version);

extension_sql_file!("../../sql/tables.sql", name = "tables", bootstrap);
extension_sql_file!("../../sql/views.sql", name = "views", requires = ["tables"]);
extension_sql_file!("../../sql/functions.sql", name = "functions", requires = ["views"]);
extension_sql_file!("../../sql/grants.sql", name = "grants", finalize);
