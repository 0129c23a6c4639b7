//! The settings of OpenTelemetry spans: our own, and OpenTelemetry's environment variables.
//!
//! Reads the environment and the loaded settings. The OpenTelemetry library itself reads the
//! endpoint in those variables.

use crate::{
    cli::Run,
    config::{Error, Layers, variable},
};
use std::path::PathBuf;
use traces::Settings;
use url::Url;

/// Path of OTLP/HTTP traces below the collector's base URL.
const PATH: &str = "v1/traces";

impl Layers {
    /// Returns the destination of spans, or `None` if none is configured. Our own endpoint takes
    /// precedence over OpenTelemetry's variables, except `OTEL_SDK_DISABLED=true`, which always
    /// turns spans off. For the CA file it is the other way round: OpenTelemetry's certificate
    /// variables take precedence over `--ca-file`.
    ///
    /// # Errors
    /// Returns an [`Error`] if the share or our own endpoint is not valid.
    pub(super) fn traces(&self, flags: &Run) -> Result<Option<Settings>, Error> {
        let ratio = flags.otlp_ratio.or(self.file.otlp_ratio).unwrap_or(0.0);
        if !(0.0..=1.0).contains(&ratio) {
            return Err(Error::OutOfRange { setting: "otlp_ratio", rule: "between 0 and 1" });
        }
        let own = flags.otlp_endpoint.as_ref().or(self.file.otlp_endpoint.as_ref());
        let own = own.filter(|text| !text.trim().is_empty());
        let is =
            |name: &str, word: &str| variable(name).is_some_and(|value| value.eq_ignore_ascii_case(word));
        let is_off = is("OTEL_SDK_DISABLED", "true") || (own.is_none() && is("OTEL_TRACES_EXPORTER", "none"));
        let endpoint = own.map(|text| below(text)).transpose()?;
        let is_told = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]
            .iter()
            .any(|name| variable(name).is_some());
        if is_off || (endpoint.is_none() && !is_told) {
            return Ok(None);
        }
        let certificate = ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"];
        let ca_file = certificate.iter().find_map(|name| variable(name)).map(PathBuf::from);
        let ca_file = ca_file.or_else(|| flags.ca_file.clone()).or_else(|| self.file.ca_file.clone());
        Ok(Some(Settings { endpoint, ratio, ca_file }))
    }
}

/// Returns the URL for traces below a base URL. The error does not contain the text, which may
/// contain a password.
fn below(base: &str) -> Result<Url, Error> {
    let mut url = Url::parse(base.trim()).map_err(|_| Error::Collector)?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(Error::Collector);
    }
    let path = format!("{}/{PATH}", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_an_address_below_the_collector_s() {
        for (base, address) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("https://otel.example/", "https://otel.example/v1/traces"),
            (" https://otel.example/tenant/7/ ", "https://otel.example/tenant/7/v1/traces"),
        ] {
            assert_eq!(below(base).map(String::from).as_deref(), Ok(address));
        }
        for text in ["otel.example:4318", "grpc://otel.example", "http://", "no url"] {
            assert_eq!(below(text), Err(Error::Collector), "{text}");
        }
    }
}
