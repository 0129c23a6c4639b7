//! The words of fixed sets, for the document of the API, and the names of subscriptions for people.
//! Postgres decides which words are valid. Pure.

use delivery::outcome::Class;
use url::Url;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

/// The states of `webhook.delivery`.
pub const STATES: [&str; 4] = ["delivered", "retrying", "queued", "exhausted"];

fn one_of(words: impl IntoIterator<Item = &'static str>) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).build()
}

pub fn states() -> Object {
    one_of(STATES)
}

pub fn outcomes() -> Object {
    one_of(Class::ALL.map(Class::as_str))
}

/// Returns the name of a subscription: its own, or the host of its URL.
pub fn title(name: Option<&str>, url: &str) -> String {
    let host = || Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
    name.map(str::to_owned).or_else(host).unwrap_or_else(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_without_a_name_has_that_of_its_host() {
        assert_eq!(title(Some("crm"), "https://a.example/x"), "crm");
        assert_eq!(title(None, "https://a.example:8443/x"), "a.example");
        assert_eq!(title(None, "nonsense"), "nonsense");
    }
}
