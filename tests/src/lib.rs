//! The parts that all end-to-end tests need.
//!
//! All parts are real: a throw-away Postgres ([`cluster`]) with the extension installed, the
//! `webhookd` binary ([`daemon`]), a receiver on a real socket that judges every request
//! ([`receiver`]), and writers that know what they committed ([`traffic`]). Further modules provide
//! a network that fails on request ([`link`]), a name server that does not answer
//! ([`name_server`]), judges of the received requests ([`verdict`]), and the extension's entries in
//! the system catalog ([`catalogue`]). The promises are in `tests/`, one file each; the benchmarks
//! are in `src/bin/bench`.

pub mod admin;
pub mod ailing;
pub mod browser;
pub mod catalogue;
pub mod clock;
pub mod cluster;
pub mod collector;
pub mod daemon;
pub mod foreign;
pub mod link;
pub mod name_server;
pub mod parameters;
pub mod pooler;
pub mod portal;
mod preloaded;
pub mod process;
pub mod receiver;
mod small_disk;
pub mod traffic;
pub mod verdict;
pub mod world;

use std::time::Duration;

/// How long a test waits for something that should take milliseconds: long enough for a machine
/// that is busy with three other things, short enough to fail within a coffee.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Returns `light`, or `heavy` if `PGW_HEAVY=1`; the variable `name` overrides both.
pub fn scale<T: std::str::FromStr>(name: &str, light: T, heavy: T) -> T {
    match std::env::var(name).ok().and_then(|value| value.parse().ok()) {
        Some(value) => value,
        None if std::env::var("PGW_HEAVY").is_ok_and(|v| v == "1") => heavy,
        None => light,
    }
}

/// Returns the builder of an HTTP client. The tests share reqwest's features with the daemon, whose
/// TLS names its provider; a client without TLS settings needs one for the process.
pub fn http_client() -> reqwest::ClientBuilder {
    // An error means that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
}
