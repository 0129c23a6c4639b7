//! Writes log lines to standard error, as readable text or as one JSON object per line.

use crate::{
    cli::LogFormat,
    config::{Error, Logging},
};
use std::io::{self, IsTerminal};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, fmt, layer::SubscriberExt, registry, util::SubscriberInitExt};

/// Starts logging for the whole process. Call it once, before anything logs.
///
/// # Errors
/// Returns [`Error::LogLevel`] if the level is not valid.
pub fn start(logging: &Logging) -> Result<(), Error> {
    let filter = filter(&logging.level)?;
    let writer = io::stderr;
    match logging.format {
        LogFormat::Text => {
            let ansi =
                io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            registry()
                .with(fmt::layer().with_writer(writer).with_ansi(ansi).with_target(false))
                .with(filter)
                .init();
        }
        LogFormat::Json => registry()
            .with(
                fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_current_span(false)
                    .with_span_list(false)
                    .with_writer(writer),
            )
            .with(filter)
            .init(),
    }
    Ok(())
}

/// Parses the log level. A single level applies to webhookd; libraries then log only warnings and
/// errors.
fn filter(level: &str) -> Result<Targets, Error> {
    if let Ok(level) = level.parse::<LevelFilter>() {
        return Ok(Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("webhookd", level));
    }
    if !level.contains('=') {
        return Err(Error::LogLevel(level.to_owned()));
    }
    level.parse().map_err(|_| Error::LogLevel(level.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn a_level_is_webhookds_own() {
        let debug = filter("debug").unwrap();
        assert!(debug.would_enable("webhookd_sender", &Level::DEBUG));
        assert!(!debug.would_enable("tokio_postgres", &Level::INFO));
        assert!(debug.would_enable("tokio_postgres", &Level::WARN));
        let error = filter("error").unwrap();
        assert!(!error.would_enable("tokio_postgres", &Level::WARN));
        let by_module = filter("warn,webhookd_sender=debug").unwrap();
        assert!(by_module.would_enable("webhookd_sender::http", &Level::DEBUG));
        assert!(!by_module.would_enable("webhookd::send_queue", &Level::INFO));
        for wrong in ["loud", "loud=very", "warn,loud"] {
            assert_eq!(filter(wrong).err(), Some(Error::LogLevel(wrong.into())));
        }
    }
}
