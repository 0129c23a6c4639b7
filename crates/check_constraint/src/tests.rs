//! Tests that CHECK expressions, as Postgres prints them, yield the right keywords, and that other
//! texts yield none and cause no panic.

use super::*;
use proptest::prelude::*;

fn learn(expression: &str, subject: &str, kind: Kind) -> Value {
    let mut facts = Facts::default();
    facts.learn(expression, subject, kind);
    facts.keywords().into()
}

const NUMERIC: Kind = Kind::Numeric { exact: false };
const EXACT: Kind = Kind::Numeric { exact: true };

/// The expressions have the form that Postgres 15 prints.
#[test]
fn what_is_understood() {
    for (expression, kind, want) in [
        ("(x > 0)", Kind::Integer, json!({"minimum": 1, "lower": true})),
        ("(x < '-5'::integer)", Kind::Integer, json!({"maximum": -6, "upper": true})),
        ("((x)::numeric > 0.5)", Kind::Integer, json!({"minimum": 1, "lower": true})),
        ("(0 <= x)", Kind::Integer, json!({"minimum": 0, "lower": true})),
        (
            "((x >= 1) AND (x <= 10))",
            Kind::Integer,
            json!({"minimum": 1, "maximum": 10, "lower": true, "upper": true}),
        ),
        ("((x > 1) AND (x > 3) AND (x >= 2))", Kind::Integer, json!({"minimum": 4, "lower": true})),
        ("(x > (0)::numeric)", EXACT, json!({"exclusiveMinimum": 0, "lower": true})),
        ("(x > (0)::numeric)", NUMERIC, json!({"minimum": 0, "lower": true})),
        (
            "((x >= '-0.5'::numeric) AND (x < 1.25))",
            EXACT,
            json!({"minimum": -0.5, "exclusiveMaximum": 1.25, "lower": true, "upper": true}),
        ),
        ("(x > (0.5)::double precision)", Kind::Double, json!({"exclusiveMinimum": 0.5, "lower": true})),
        (
            "(x > ('-1'::integer)::double precision)",
            Kind::Real,
            json!({"exclusiveMinimum": -1, "lower": true}),
        ),
        ("(x = ANY (ARRAY[1, 2, 2]))", Kind::Integer, json!({"enum": [1, 2]})),
        ("(x = 1.50)", NUMERIC, json!({"enum": [1.5]})),
        ("(x = ANY (ARRAY['a'::text, 'it''s'::text]))", Kind::Text, json!({"enum": ["a", "it's"]})),
        (
            "((x)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[]))",
            Kind::Text,
            json!({"enum": ["a", "b"]}),
        ),
        (
            "((x)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text]))",
            Kind::Text,
            json!({"enum": ["a", "b"]}),
        ),
        (
            "(x = ANY (ARRAY['m'::bpchar, 'f  '::bpchar]))",
            Kind::Padded { length: 2 },
            json!({"enum": ["m ", "f "]}),
        ),
        ("(x = ANY (ARRAY['a'::public.mood, 'b'::public.mood]))", Kind::Enum, json!({"enum": ["a", "b"]})),
        ("(x <> ''::text)", Kind::Text, json!({"minLength": 1})),
        (
            "((length((x)::text) > 3) AND (char_length(x) <= 10))",
            Kind::Text,
            json!({"minLength": 4, "maxLength": 10}),
        ),
        ("(length(x) = 2)", Kind::Text, json!({"minLength": 2, "maxLength": 2})),
        ("(x IS NOT NULL)", Kind::Text, json!({"notNull": true})),
    ] {
        assert_eq!(learn(expression, "x", kind), want, "{expression}");
    }
    assert_eq!(learn("(VALUE > 0)", "VALUE", Kind::Integer), json!({"minimum": 1, "lower": true}));
    assert_eq!(
        learn("(\"Größe \"\"x\" > 0)", "Größe \"x", Kind::Integer),
        json!({"minimum": 1, "lower": true})
    );
}

/// None of these expressions may yield a keyword: each means something other than it seems to, or
/// has no exact keyword.
#[test]
fn what_is_passed_over() {
    for (expression, kind) in [
        ("((x > 0) OR (x < 5))", Kind::Integer),
        ("(NOT (x > 0))", Kind::Integer),
        ("(y > 0)", Kind::Integer),
        ("(x > y)", Kind::Integer),
        ("(x > x)", Kind::Integer),
        ("((x + 1) > 0)", Kind::Integer),
        ("(abs(x) < 5)", Kind::Integer),
        ("(x OPERATOR(public.>) 0)", Kind::Integer),
        ("(public.length(x) > 3)", Kind::Text),
        ("((x)::integer > 0)", NUMERIC),
        ("((x)::numeric(5,0) > (0)::numeric)", NUMERIC),
        ("(x > (0.7)::integer)", Kind::Integer),
        ("(x > 'NaN'::numeric)", NUMERIC),
        ("(x > 1234567890123456)", Kind::Integer),
        ("(x > (0.1)::double precision)", Kind::Real),
        ("((x)::real > (0)::real)", Kind::Double),
        ("((x)::text = 'a'::text)", Kind::Padded { length: 2 }),
        ("(length(x) > 3)", Kind::Padded { length: 5 }),
        ("(x > 'a'::text)", Kind::Text),
        ("(x = ANY (ARRAY['a'::text, y]))", Kind::Text),
        ("(x = ANY (ARRAY[lower('A'::text)]))", Kind::Text),
        ("(x <> ALL (ARRAY['a'::text]))", Kind::Text),
        ("((x COLLATE public.ci) = 'a'::text)", Kind::Text),
        ("(CASE WHEN (x > 0) THEN true ELSE false END)", Kind::Integer),
        ("CASE WHEN x > 0 AND x < 5 THEN true ELSE false END", Kind::Integer),
        ("((x > 0) IS NOT NULL)", Kind::Integer),
        ("((x > 0) = false)", Kind::Integer),
        ("((x = 1) IS TRUE)", Kind::Integer),
        ("(x = 0.5)", Kind::Integer),
    ] {
        assert_eq!(learn(expression, "x", kind), json!({}), "{expression}");
    }
    assert_eq!(learn("(VALUE IS NOT NULL)", "VALUE", Kind::Integer), json!({}));
}

#[test]
fn several_constraints_together() {
    let mut facts = Facts::default();
    facts.learn("(x = ANY (ARRAY[1, 2, 3]))", "x", Kind::Integer);
    facts.learn("(VALUE = ANY (ARRAY[3, 2, 5]))", "VALUE", Kind::Integer);
    facts.learn("nonsense (", "x", Kind::Integer);
    assert_eq!(facts.keywords()["enum"], json!([2, 3]));
}

proptest! {
    #[test]
    fn never_panics(expression in r#"[(\[x\])'"=<> ,:a0-9.A-Z-]{0,80}"#) {
        for kind in [Kind::Integer, NUMERIC, Kind::Double, Kind::Real, Kind::Text, Kind::Padded { length: 3 }, Kind::Enum] {
            learn(&expression, "x", kind);
        }
    }

    /// Checks that every value that meets the condition is within the bounds.
    #[test]
    fn integers_that_pass_are_within(literal in -1000i64..1000, quarter in 0u8..4, value in -1200i64..1200, operator in 0usize..5) {
        let operator = [">", ">=", "<", "<=", "="][operator];
        let limit = literal as f64 + f64::from(quarter) / 4.0;
        let value_f = value as f64;
        let holds = match operator {
            ">" => value_f > limit,
            ">=" => value_f >= limit,
            "<" => value_f < limit,
            "<=" => value_f <= limit,
            _ => value_f == limit,
        };
        let text = if quarter == 0 { format!("('{literal}'::integer)::numeric") } else { format!("'{limit}'::numeric") };
        let words = learn(&format!("((x)::numeric {operator} {text})"), "x", Kind::Integer);
        if holds {
            prop_assert!(words.get("minimum").is_none_or(|m| m.as_i64().unwrap() <= value), "{words}");
            prop_assert!(words.get("maximum").is_none_or(|m| m.as_i64().unwrap() >= value), "{words}");
            prop_assert!(words.get("enum").is_none_or(|e| e.as_array().unwrap().contains(&json!(value))), "{words}");
        } else if operator != "=" {
            // The bounds must not be wider than the condition either.
            let within = words.get("minimum").is_none_or(|m| m.as_i64().unwrap() <= value)
                && words.get("maximum").is_none_or(|m| m.as_i64().unwrap() >= value);
            prop_assert!(!within, "{words}");
        }
    }
}
