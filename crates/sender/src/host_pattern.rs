//! Host names as an operator writes them: one host, or all hosts in a domain. Pure.

use thiserror::Error;
use url::Host;

/// `hooks.example.com` selects that host. `.example.com` and `*.example.com` select every host in
/// the domain, but not the domain itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    One(Host<String>),
    /// The domain with its leading dot.
    Within(Box<str>),
}

/// A text that is not a host pattern.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
#[error("invalid host `{0}`; use hooks.example.com, or .example.com for all hosts in the domain")]
pub struct InvalidHost(pub String);

impl HostPattern {
    /// Parses a pattern. Names are normalized to their form in URLs (lower case, IDNA).
    ///
    /// # Errors
    /// Returns [`InvalidHost`] if the text is not a pattern.
    pub fn parse(text: &str) -> Result<Self, InvalidHost> {
        let invalid = || InvalidHost(text.to_owned());
        let within = text.strip_prefix("*.").or_else(|| text.strip_prefix('.'));
        let written = undotted(within.unwrap_or(text));
        // `127..` is a name, but `127.` is an address: without one dot the text means another host.
        if written.ends_with('.') {
            return Err(invalid());
        }
        let host = Host::parse(written).map_err(|_| invalid())?;
        match (within, host) {
            (_, Host::Domain(name)) if name.contains('*') || name.split('.').any(str::is_empty) => {
                Err(invalid())
            }
            (None, host) => Ok(Self::One(host)),
            (Some(_), Host::Domain(name)) => Ok(Self::Within(format!(".{name}").into())),
            (Some(_), _) => Err(invalid()),
        }
    }

    /// Reports whether the pattern selects a URL's host.
    pub fn matches(&self, host: &Host<String>) -> bool {
        match (self, host) {
            (Self::One(Host::Domain(one)), Host::Domain(name)) => one == undotted(name),
            (Self::One(one), host) => one == host,
            (Self::Within(domain), Host::Domain(name)) => {
                let name = undotted(name);
                name.len() > domain.len() && name.ends_with(&**domain)
            }
            (Self::Within(_), _) => false,
        }
    }
}

/// Removes a trailing dot. `example.com.` is the same name, excluded from the resolver's search
/// list.
fn undotted(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_in_front_means_all_within() {
        for (pattern, host, want) in [
            ("example.com", "example.com", true),
            ("Example.COM.", "example.com.", true),
            ("example.com", "www.example.com", false),
            (".example.com", "www.example.com", true),
            ("*.example.com", "a.b.example.com.", true),
            (".example.com", "example.com", false),
            (".example.com", "badexample.com", false),
            (".example.com", ".example.com", false),
            ("bücher.example", "xn--bcher-kva.example", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("0x7f.1", "127.0.0.1", true),
            ("[::1]", "[::1]", true),
            ("[::1]", "[::2]", false),
            (".1", "127.0.0.1", false),
        ] {
            let host = Host::parse(host).unwrap_or_else(|_| Host::Domain(host.to_owned()));
            let matches = HostPattern::parse(pattern).is_ok_and(|pattern| pattern.matches(&host));
            assert_eq!(matches, want, "{pattern} {host}");
        }
        for text in [
            "",
            ".",
            "*",
            "*.",
            "a b",
            "*.*",
            "127..",
            "１２７。。",
            "a..b",
            "..a",
            "a*.example",
            "https://example.com",
            ".127.0.0.1",
        ] {
            assert_eq!(HostPattern::parse(text), Err(InvalidHost(text.into())), "{text}");
        }
    }
}
