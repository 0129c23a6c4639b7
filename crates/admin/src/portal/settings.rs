//! The settings of the page of an owner, `[portal]` in the configuration file. Pure: the caller
//! reads the file of the logo.

use crate::{policy::policy, portal::colour::Colour};
use axum::http::HeaderValue;
use thiserror::Error;
use url::{Host, Url};

/// The name that the page shows without a setting.
const NAME: &str = "Webhooks";
const NAME_CHARACTERS_MAX: usize = 60;
pub const LOGO_BYTES_MAX: usize = 128 * 1024;
const ANCESTORS_MAX: usize = 100;

/// A setting that is not valid: which one, and the rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("portal.{key} {rule}")]
pub struct Invalid {
    pub key: &'static str,
    pub rule: String,
}

fn invalid(key: &'static str, rule: impl Into<String>) -> Invalid {
    Invalid { key, rule: rule.into() }
}

/// The picture in the head of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logo {
    pub kind: &'static str,
    pub bytes: Vec<u8>,
}

/// The settings, all of them valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortalSettings {
    frame_ancestors: Vec<String>,
    name: String,
    logo: Option<Logo>,
    accent: Option<Colour>,
    url: Option<String>,
    role: Option<String>,
}

impl Default for PortalSettings {
    fn default() -> Self {
        Self {
            frame_ancestors: Vec::new(),
            name: NAME.to_owned(),
            logo: None,
            accent: None,
            url: None,
            role: None,
        }
    }
}

impl PortalSettings {
    /// Sets the origins whose pages may embed the page.
    ///
    /// # Errors
    /// An entry is not an origin.
    pub fn embedded_by(mut self, origins: &[String]) -> Result<Self, Invalid> {
        const KEY: &str = "frame_ancestors";
        if origins.len() > ANCESTORS_MAX {
            return Err(invalid(KEY, format!("must have at most {ANCESTORS_MAX} origins")));
        }
        let parse = |text: &String| {
            origin(text, true).ok_or_else(|| {
                let rule = "must be origins such as https://app.example.com or https://*.example.com, or http:// on a loopback host";
                invalid(KEY, format!("{rule}; \"{text}\" is not one"))
            })
        };
        self.frame_ancestors = origins.iter().map(parse).collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// Sets the name of the application.
    ///
    /// # Errors
    /// The name is empty, too long, or has control characters.
    pub fn named(mut self, name: &str) -> Result<Self, Invalid> {
        let name = name.trim();
        let is_plain = !name.is_empty() && !name.chars().any(char::is_control);
        if !is_plain || name.chars().count() > NAME_CHARACTERS_MAX {
            return Err(invalid(
                "name",
                format!("must have 1 to {NAME_CHARACTERS_MAX} printable characters"),
            ));
        }
        name.clone_into(&mut self.name);
        Ok(self)
    }

    /// Sets the logo, from the contents of a file.
    ///
    /// # Errors
    /// The file is too large, or neither PNG nor SVG.
    pub fn with_logo(mut self, bytes: Vec<u8>) -> Result<Self, Invalid> {
        const KEY: &str = "logo_file";
        if bytes.len() > LOGO_BYTES_MAX {
            return Err(invalid(KEY, format!("must have at most {} KiB", LOGO_BYTES_MAX / 1024)));
        }
        let is_svg = || std::str::from_utf8(&bytes).is_ok_and(|text| text.contains("<svg"));
        let kind = match bytes.as_slice() {
            bytes if bytes.starts_with(b"\x89PNG\r\n\x1a\n") => "image/png",
            _ if is_svg() => "image/svg+xml",
            _ => return Err(invalid(KEY, "must be a PNG or SVG file")),
        };
        self.logo = Some(Logo { kind, bytes });
        Ok(self)
    }

    /// Sets the accent colour.
    ///
    /// # Errors
    /// The text is not `#rrggbb`.
    pub fn coloured(mut self, text: &str) -> Result<Self, Invalid> {
        let colour = Colour::parse(text);
        self.accent =
            Some(colour.ok_or_else(|| {
                invalid("accent_color", "must be # and six hexadecimal digits, as in #0b62c4")
            })?);
        Ok(self)
    }

    /// Sets the base of the URLs in links.
    ///
    /// # Errors
    /// The text is not an origin.
    pub fn at(mut self, text: &str) -> Result<Self, Invalid> {
        let rule = "must be the scheme and host of the admin server, as in https://hooks.example.com";
        self.url = Some(origin(text.trim_end_matches('/'), false).ok_or_else(|| invalid("url", rule))?);
        Ok(self)
    }

    /// Sets the role of links that name none.
    ///
    /// # Errors
    /// The name is empty.
    pub fn acting_as(mut self, role: &str) -> Result<Self, Invalid> {
        if role.is_empty() || role.len() > 63 {
            return Err(invalid("role", "must be the name of a role"));
        }
        self.role = Some(role.to_owned());
        Ok(self)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn logo(&self) -> Option<&Logo> {
        self.logo.as_ref()
    }

    /// Returns the base of the URLs in links.
    pub fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// Returns the role of links that name none.
    pub fn role(&self) -> Option<&str> {
        self.role.as_deref()
    }

    /// Returns the style sheet of the accent colour. Empty without one.
    pub fn style_sheet(&self) -> String {
        self.accent.map(Colour::style_sheet).unwrap_or_default()
    }

    /// Returns the content security policy of the page.
    pub fn policy(&self) -> HeaderValue {
        policy(self.frame_ancestors.iter().map(String::as_str))
    }
}

/// Returns an origin in its normal form. Over plain HTTP, anyone on the way could replace the page
/// around ours, so the host must then be this machine.
fn origin(text: &str, allows_wildcard: bool) -> Option<String> {
    let (scheme, authority) = text.split_once("://")?;
    // `Url` accepts `*` in no host.
    let wildcard = authority.strip_prefix("*.").filter(|_| allows_wildcard);
    let url = Url::parse(&format!("{scheme}://{}", wildcard.unwrap_or(authority))).ok()?;
    let is_bare = url.path() == "/"
        && !text.ends_with(['/', '?', '#', '@'])
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    // `Url` accepts a `;` in a host, which would end the directive in the header.
    let is_part = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'.' | b'_');
    let is_loopback = match url.host()? {
        Host::Domain(name) if !name.bytes().all(is_part) => return None,
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    };
    let is_allowed = url.scheme() == "https" || (url.scheme() == "http" && is_loopback);
    if !is_bare || !is_allowed || (wildcard.is_some() && !matches!(url.host(), Some(Host::Domain(_)))) {
        return None;
    }
    let origin = url.origin().ascii_serialization();
    Some(match wildcard {
        Some(_) => origin.replacen("://", "://*.", 1),
        None => origin,
    })
}

#[cfg(test)]
mod tests {
    //! Valid settings, and the key that an error names.

    use super::*;

    #[test]
    fn origins_are_checked() {
        for (text, want) in [
            ("https://app.example", Some("https://app.example")),
            ("https://APP.example:443", Some("https://app.example")),
            ("https://app.example:8443", Some("https://app.example:8443")),
            ("https://*.app.example", Some("https://*.app.example")),
            ("http://localhost:3000", Some("http://localhost:3000")),
            ("http://127.0.0.1:3000", Some("http://127.0.0.1:3000")),
            ("http://app.example", None),
            ("https://app.example/x", None),
            ("https://app.example/", None),
            ("https://app.example;script-src", None),
            ("https://a b", None),
            ("https://u:p@app.example", None),
            ("*", None),
            ("'self'", None),
            ("https://*", None),
            ("https://*.127.0.0.1", None),
            ("data:x", None),
        ] {
            assert_eq!(origin(text, true).as_deref(), want, "{text}");
        }
        assert_eq!(origin("https://*.app.example", false), None);
        assert_eq!(
            PortalSettings::default().at("https://hooks.example/").unwrap().url(),
            Some("https://hooks.example")
        );
    }

    #[test]
    fn an_error_names_the_key() {
        let new = PortalSettings::default;
        for (result, key) in [
            (new().embedded_by(&["app.example".to_owned()]), "portal.frame_ancestors"),
            (new().named(""), "portal.name"),
            (new().named(&"x".repeat(61)), "portal.name"),
            (new().with_logo(b"GIF89a".to_vec()), "portal.logo_file"),
            (new().with_logo(vec![b'<'; LOGO_BYTES_MAX + 1]), "portal.logo_file"),
            (new().coloured("blue"), "portal.accent_color"),
            (new().at("https://hooks.example/hooks"), "portal.url"),
            (new().acting_as(""), "portal.role"),
        ] {
            assert!(result.unwrap_err().to_string().starts_with(&format!("{key} must")), "{key}");
        }
        assert_eq!(new().with_logo(b"<svg/>".to_vec()).unwrap().logo().unwrap().kind, "image/svg+xml");
    }
}
