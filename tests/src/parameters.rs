//! Extreme values of the server's parameters, as a DBA may set them for a role or a database.

use tokio_postgres::Client;

/// Parameters that stop or slow down any client, or that only take effect at a restart.
const NOT_SWEPT: [&str; 13] = [
    "allow_in_place_tablespaces", // for superusers' tests of Postgres
    "allow_system_table_mods",
    "client_encoding", // every driver sets it
    "debug_discard_caches",
    "dynamic_library_path",
    "extension_control_path",
    "local_preload_libraries",
    "max_stack_depth",
    "post_auth_delay",
    "session_preload_libraries",
    "temp_file_limit",
    "trace_recovery_messages",
    "wal_consistency_checking",
];

/// Strings that mean something to a statement.
const STRINGS: [(&str, &str); 9] = [
    ("search_path", "evil"),
    ("DateStyle", "German, DMY"),
    ("TimeZone", "Asia/Kolkata"),
    ("timezone_abbreviations", "India"),
    ("default_text_search_config", "pg_catalog.german"),
    ("lc_messages", "C"),
    ("application_name", "webhookd"),
    ("temp_tablespaces", "pg_default"),
    ("default_tablespace", "pg_default"),
];

/// Returns an extreme of each parameter: the other boolean, the first or last other value of an
/// enumeration, the lowest or highest number.
///
/// # Panics
/// If pg_settings cannot be read.
pub async fn extremes(client: &Client, is_least: bool) -> Vec<(String, String)> {
    let rows = client
        .query(
            "select name, case vartype
                 when 'bool' then case boot_val when 'on' then 'off' else 'on' end
                 when 'enum' then (select v from unnest(enumvals) with ordinality as e (v, n) where v <> boot_val
                                   order by case when $1 then n else -n end limit 1)
                 when 'string' then null
                 else case when name like 'idle%timeout' then '5000' when name like '%timeout' then '500' when $1 then min_val else max_val end end
             from pg_settings where context in ('user', 'superuser')
               -- 2 TiB for a hash table fail in Postgres itself.
               and ($1 or category <> 'Resource Usage / Memory') and name <> all ($2)
               and name !~ '^(webhook[.]|log_|debug_print|debug_pretty|trace_)' order by name",
            &[&is_least, &&NOT_SWEPT[..]],
        )
        .await
        .expect("pg_settings can be read");
    let extreme = |row: &tokio_postgres::Row| -> Option<(String, String)> {
        let name: String = row.get(0);
        let string = STRINGS.iter().find(|(string, _)| *string == name).map(|(_, value)| (*value).to_owned());
        Some((name, row.get::<_, Option<String>>(1).or(string)?))
    };
    rows.iter().filter_map(extreme).collect()
}
