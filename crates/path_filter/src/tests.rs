//! The answers of the documentation of Postgres, and texts that are left to it. The comparison with
//! Postgres itself is in `tests/tests/delivery/filters_agree_with_postgres.rs`.

use super::*;
use proptest::prelude::*;

fn matches(filter: &str, data: &str) -> Option<bool> {
    let filter = PathFilter::parse(filter).unwrap_or_else(|| panic!("not parsed: {filter}"));
    filter.matches(&Document::new(Subject {
        event_type: "order.created",
        key: Some("7"),
        data: data.as_bytes(),
        ..Subject::default()
    }))
}

#[test]
fn members_compare_with_literals() {
    let data = r#"{"total": 1e2, "name": "Ann", "paid": true, "note": null, "tags": ["a", "b"], "id": 7}"#;
    for (filter, is_match) in [
        (r#"($."data"."total" == 100.00)"#, true),
        (r#"($."data"."total" > 100)"#, false),
        (r#"(99 < $."data"."total")"#, true),
        (r#"($."data"."name" == "Ann")"#, true),
        (r#"($."data"."name" < "ann")"#, true),
        (r#"($."data"."name" starts with "An")"#, true),
        (r#"($."data"."paid" == true)"#, true),
        (r#"($."data"."note" == null)"#, true),
        (r#"($."data"."nothing" == null)"#, false),
        (r#"($."data"."nothing" != 1)"#, false),
        (r#"($."data"."note" != 1)"#, true),
        (r#"($."data"."tags" == "b")"#, true),
        (r#"($."data"."tags"[*] == "c")"#, false),
        (r#"($."type" == "order.created" && $."key" == "7")"#, true),
        (r#"($."data"."total" == "100")"#, false),
        (r#"(($."data"."total" == "100") is unknown)"#, true),
        (r#"(($."data"."total" == "100" || $."data"."id" == 7) && !($."key" == "8"))"#, true),
        (r#"!($."data"."total" == "100")"#, false),
        (r#"(exists ($."data"."note") && !(exists ($."actor")))"#, true),
        (r#"$."data"?(@."id" == 7 && @."total" == $."data"."total")"#, true),
        (r#"$."data"?(@."id" == 8)"#, false),
        (r#"$."data"."note""#, true),
        (r#"$."table""#, false),
        ("$", true),
    ] {
        assert_eq!(matches(filter, data), Some(is_match), "{filter}");
    }
}

#[test]
fn names_need_no_quotation_marks() {
    assert_eq!(
        PathFilter::parse("$.data.tenant_id == 7 && $.type starts with \"a\""),
        PathFilter::parse(r#"($."data"."tenant_id" == 7 && $."type" starts with "a")"#)
    );
    assert!(PathFilter::parse("$.data.tenant_id == 7").is_some());
}

#[test]
fn the_last_of_equal_names_counts() {
    assert_eq!(matches(r#"($."data"."a" == 2)"#, r#"{"a": 1, "\u0061": 2}"#), Some(true));
    assert_eq!(matches(r#"($."data"."a"."b" == 1)"#, r#"{"a": {"b": 1}, "a": 2}"#), Some(false));
}

#[test]
fn nothing_matches_what_jsonb_cannot_hold() {
    for data in [r#"{"a": "\u0000"}"#, r#"{"\ud800": 1}"#, r#"["\ud83d\u0041"]"#, r#"["\ude80"]"#] {
        assert_eq!(matches("$", data), Some(false), "{data}");
    }
    assert_eq!(matches(r#"($."data" == "🚀")"#, r#""\ud83d\ude80""#), Some(true));
}

#[test]
fn postgres_decides_what_is_not_certain() {
    let deep = "[".repeat(200) + &"]".repeat(200);
    let large = format!("\"{}\"", "a".repeat(2 << 20));
    let many = format!("[{}1]", "1,".repeat(5000));
    for data in [deep.as_str(), &large, r#"{"a": 1e2000}"#, "{", "{} 1", "01", "tru", r#""\x""#, &many] {
        assert_eq!(matches(r#"($."data" == 2)"#, data), None, "{:.20}", data);
    }
}

#[test]
fn other_paths_are_left_to_postgres() {
    let deep = "!(".repeat(100) + "$.a == 1" + &")".repeat(100);
    for filter in [
        "",
        "1",
        "true",
        r#"strict ($."data"."a" == 1)"#,
        r#"($."data".* == 1)"#,
        r#"($."data".** == 1)"#,
        r#"($."data"[0] == 1)"#,
        r#"($."data".size() == 1)"#,
        r#"($.data.size () == 1)"#,
        r#"($."data"."a" + 1 == 1)"#,
        r#"(-$."data"."a" == 1)"#,
        r#"($."data" like_regex "a")"#,
        r#"($."data" == $"x")"#,
        r#"($."a" == 1).type()"#,
        r#"(($."a" == 1) == true)"#,
        r#"($."a" == 1 && $."b")"#,
        r#"($."a" == 0x1F)"#,
        r#"($."a" == 1_000)"#,
        r#"($."a" == "\x41")"#,
        r#"($."a" == 1) $"#,
        &deep,
    ] {
        assert_eq!(PathFilter::parse(filter), None, "{filter}");
    }
}

#[test]
fn a_filter_has_a_bounded_cost() {
    // Each level multiplies the number of pairs by the number of elements.
    let nested = (0..6).fold("@ == 0".to_owned(), |inner, _| format!("exists($.data[*] ? ({inner}))"));
    let data = format!("[{}1]", "1,".repeat(100));
    assert_eq!(matches(&nested, &data), None);
}

#[test]
fn an_equality_is_what_a_filter_needs_at_least() {
    let needs = |filter: &str| PathFilter::parse(filter).expect("parsed").equality();
    let of = |filter: &str| needs(filter).unwrap_or_else(|| panic!("no equality: {filter}"));
    for filter in [
        "100 == $.data.tenant",
        "$.type == \"order.created\" && $.data.tenant == 1e2",
        "$.data.total > 5 && ($.data.tenant == 100 && !($.key == \"8\"))",
        "$ ?(@.data.tenant == 100.0)",
    ] {
        assert_eq!(of(filter), of("$.data.tenant == 100"), "{filter}");
    }
    for filter in [
        "$.data.a != 1",
        "$.data.a == 1 || $.data.b == 1",
        "!($.data.a == 1)",
        "($.data.a == 1) is unknown",
        "$.data.a == $.data.b",
        "$.data.a[*] == 1",
        "$.data ?(@.a == 1)",
        "exists ($.data ?(@.a == 1))",
        "$.data.a",
    ] {
        assert_eq!(needs(filter), None, "{filter}");
    }
    let values = |data: &str| {
        let (path, value) = of("$.data.a == 1");
        let subject = Subject { data: data.as_bytes(), ..Subject::default() };
        path.values(&Document::new(subject)).map(|values| values.contains(&value))
    };
    for (data, has) in [
        (r#"{"a": 1.0}"#, Some(true)),
        (r#"{"a": ["1", [1], 1]}"#, Some(true)),
        (r#"[{"a": 2}, {"a": 1}]"#, Some(true)),
        (r#"{"a": [[1]]}"#, Some(false)),
        (r#"{"a": "1"}"#, Some(false)),
        (r#"{"a": 1, "b": "\u0000"}"#, Some(false)),
        (r#"{"a": 1e2000}"#, None),
    ] {
        assert_eq!(values(data), has, "{data}");
    }
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_left(filter in ".{0,40}", data in ".{0,40}") {
        if let Some(filter) = PathFilter::parse(&filter) {
            let _ = filter.matches(&Document::new(Subject { data: data.as_bytes(), ..Subject::default() }));
        }
    }

    #[test]
    fn texts_like_paths_are_parsed_or_left(
        filter in r#"([$@]|\.|"a"|\[\*\]|\?\(|\(|\)|!|exists|&&|==|<|1|"x"| ){1,20}"#,
        data in r#"([\[\]{}:,]|"a"|1|null|"\\\\ud83d"){0,10}"#,
    ) {
        if let Some(filter) = PathFilter::parse(&filter) {
            let document = Document::new(Subject { data: data.as_bytes(), ..Subject::default() });
            if filter.matches(&document) == Some(true) && let Some((path, value)) = filter.equality() {
                prop_assert!(path.values(&document).is_none_or(|values| values.contains(&value)));
            }
        }
    }
}
