//! Which responses count as a delivery, and which are stored. Pure.

use serde_json::{Number, Value};
use std::sync::Arc;

/// The options of a subscription about responses.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResponseRule {
    /// The body of a 2xx response must contain this object. `None` accepts any body.
    pub expected: Option<Arc<Value>>,
    /// The start of the response of a successful attempt is stored too.
    pub is_kept: bool,
}

impl ResponseRule {
    /// Checks the body of a 2xx response.
    ///
    /// # Errors
    /// Returns what is wrong with the body, in words for people.
    pub fn check(&self, body: &[u8]) -> Result<(), &'static str> {
        let Some(expected) = &self.expected else { return Ok(()) };
        let Ok(body) = serde_json::from_slice::<Value>(body) else {
            return Err("the body is not JSON of at most 64 KiB (expected_response)");
        };
        if contains(&body, expected) {
            Ok(())
        } else {
            Err("the body does not contain the expected response (expected_response)")
        }
    }
}

/// Reports whether a value contains another one, as the operator `@>` of `jsonb` does inside
/// objects and arrays.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(name, part)| whole.get(name).is_some_and(|whole| contains(whole, part)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            part.iter().all(|part| whole.iter().any(|whole| contains(whole, part)))
        }
        (Value::Number(whole), Value::Number(part)) => is_equal(whole, part),
        (whole, part) => whole == part,
    }
}

/// Compares numbers by value: 1 equals 1.0.
fn is_equal(one: &Number, other: &Number) -> bool {
    one == other || (one.is_f64() || other.is_f64()) && one.as_f64() == other.as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_body_contains_what_jsonb_contains() {
        for (body, expected, is_met) in [
            (r#"{"ok":true,"id":7}"#, json!({"ok": true}), true),
            (r#"{"ok":false,"error":"no_channel"}"#, json!({"ok": true}), false),
            (r#"{"result":{"status":"done","n":1.0}}"#, json!({"result": {"n": 1}}), true),
            (r#"{"errors":[]}"#, json!({"errors": []}), true),
            (r#"{"errors":[{"code":1},{"code":2}]}"#, json!({"errors": [{"code": 2}]}), true),
            (r#"{"errors":[{"code":1}]}"#, json!({"errors": [{"code": 2}]}), false),
            (r#"{"ok":null}"#, json!({"ok": true}), false),
            ("[]", json!({}), false),
            ("ok", json!({}), false),
            ("", json!({"ok": true}), false),
        ] {
            let rule = ResponseRule { expected: Some(Arc::new(expected.clone())), is_kept: false };
            assert_eq!(rule.check(body.as_bytes()).is_ok(), is_met, "{body} and {expected}");
        }
        assert_eq!(ResponseRule::default().check(b"anything"), Ok(()));
    }
}
