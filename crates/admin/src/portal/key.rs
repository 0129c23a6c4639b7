//! The key of an owner's session, which is a part of the path: `/portal/s/KEY/…`. Pure.
//!
//! **Why no cookie.** Applications embed the page in their own pages. There, a cookie of ours is a
//! third-party cookie, which some browsers never send, and others only over TLS. A cookie is also
//! shared by all tabs: a second link would change the owner of the first tab. And a browser sends a
//! cookie with a request that another site's page caused; a key in the path is sent only by those
//! who know it, so no form needs a second proof.
//!
//! **What protects the key.** It has 256 random bits, and the database stores its hash. It is valid
//! for one owner until the link expires, at most a day. It is taken out of the path before routing,
//! so that no log, counter or error of ours contains it. Pages send no `Referer`, and link to no
//! other site.

use crate::token::{Token, TokenKind};
use axum::{extract::Request, http::Uri};

/// The path of all pages of an owner, after the key has been taken out.
pub const ROOT: &str = "/portal";
/// The path before the key.
const KEYED: &str = "/portal/s/";
/// The path before the token of a link.
pub const LINKS: &str = "/portal/links/";

/// The key of the session that a request belongs to.
#[derive(Debug, Clone)]
pub struct SessionKey(pub Token);

impl SessionKey {
    /// Returns the path that all paths of the session begin with.
    pub fn base(&self) -> String {
        format!("{KEYED}{}", self.0.reveal())
    }
}

/// Reports whether a path belongs to the page of an owner, with or without a key.
pub fn is_portal(path: &str) -> bool {
    path.strip_prefix(ROOT).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Reports whether a path opens a link.
pub fn is_link(path: &str) -> bool {
    path.starts_with(LINKS)
}

/// Returns the path without its key, and the key. Returns `None` if the path has none.
fn split(path: &str) -> Option<(String, SessionKey)> {
    let rest = path.strip_prefix(KEYED)?;
    let (key, page) = rest.split_once('/').unwrap_or((rest, ""));
    let key = Token::parse(TokenKind::Session, key)?;
    let page = page.trim_end_matches('/');
    let path = if page.is_empty() { ROOT.to_owned() } else { format!("{ROOT}/{page}") };
    Some((path, SessionKey(key)))
}

/// Moves the key from the path of a request to its extensions.
pub fn take_key(request: &mut Request<impl Sized>) {
    let Some((path, key)) = split(request.uri().path()) else { return };
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let Ok(uri) = format!("{path}{query}").parse::<Uri>() else { return };
    *request.uri_mut() = uri;
    request.extensions_mut().insert(key);
}

#[cfg(test)]
mod tests {
    //! Paths with and without a key.

    use super::*;

    #[test]
    fn the_key_is_taken_out_of_the_path() {
        let key = Token::generate(TokenKind::Session).unwrap();
        for (rest, path) in [
            ("", "/portal"),
            ("/", "/portal"),
            ("/deliveries?state=queued", "/portal/deliveries?state=queued"),
            ("/docs/a.b/schema.json", "/portal/docs/a.b/schema.json"),
            ("/s/whses_x", "/portal/s/whses_x"),
        ] {
            let mut request =
                Request::builder().uri(format!("/portal/s/{}{rest}", key.reveal())).body(()).unwrap();
            take_key(&mut request);
            assert_eq!(request.uri(), path);
            assert_eq!(request.extensions().get::<SessionKey>().map(|found| &found.0), Some(&key));
        }
    }

    #[test]
    fn other_paths_stay() {
        for path in ["/", "/portal", "/portals/s/x", "/portal/s/", "/portal/s/whses_x/docs", "/v1/events"] {
            let mut request = Request::builder().uri(path).body(()).unwrap();
            take_key(&mut request);
            assert_eq!(request.uri(), path);
            assert!(request.extensions().get::<SessionKey>().is_none());
        }
        assert!(is_portal("/portal") && is_portal("/portal/docs") && !is_portal("/portals"));
    }
}
