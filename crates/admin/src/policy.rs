//! The content security policy of every response. Pure.

use axum::http::HeaderValue;

const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'";

/// Returns the policy with the origins whose pages may embed ours.
pub fn policy<'a>(ancestors: impl Iterator<Item = &'a str>) -> HeaderValue {
    let listed: Vec<&str> = ancestors.collect();
    let listed = if listed.is_empty() { "'none'".to_owned() } else { listed.join(" ") };
    HeaderValue::from_str(&format!("{POLICY}; frame-ancestors {listed}"))
        .unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"))
}

#[cfg(test)]
mod tests {
    //! The origins in the policy.

    use super::*;

    #[test]
    fn only_listed_origins_may_embed() {
        let text = |origins: &[&str]| {
            let policy = policy(origins.iter().copied());
            policy.to_str().unwrap().rsplit_once("; ").unwrap().1.to_owned()
        };
        assert_eq!(text(&[]), "frame-ancestors 'none'");
        assert_eq!(
            text(&["https://a.example", "https://b.example"]),
            "frame-ancestors https://a.example https://b.example"
        );
        assert!(policy(["a\nb"].into_iter()).to_str().unwrap().ends_with("frame-ancestors 'none'"));
    }
}
