//! The router finds what a linear scan finds, also within a window and after changes.

use super::*;
use crate::parsed_filters::subject;
use delivery::{
    scope::{Audience, Scope},
    snapshot::Snapshot,
    subscription::Ordering,
};
use event_type::{Pattern, is_reserved};
use path_filter::PathFilter;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn table(rows: &[(i64, &[&str], &str)]) -> Router {
    let subscriptions = rows.iter().map(|(id, patterns, created)| {
        let patterns = patterns.iter().map(|text| Pattern::parse(text).unwrap()).collect();
        let created: Snapshot = created.parse().unwrap();
        (*id, Arc::new(Subscription { patterns, created_snapshot: created, ..Subscription::sample(*id) }))
    });
    Router::new(subscriptions.collect())
}

fn event(event_type: &str, xid: u64, subscription_id: Option<i64>) -> Event {
    Event { event_type: event_type.into(), xid, subscription_id, ..Event::sample(1) }
}

fn route(router: &Router, event: &Event) -> Vec<i64> {
    let mut matched = vec![99];
    router.route_revised(&Revisions::default(), event, None, &mut matched);
    assert_eq!(matched.remove(0), 99, "what was there stays");
    matched
}

#[test]
fn exact_prefix_and_star() {
    let router = table(&[
        (1, &["order.created"], "3:3:"),
        (2, &["order.*"], "3:3:"),
        (3, &["*"], "3:3:"),
        (4, &["order.*", "*", "order.created", "order.*"], "3:3:"),
        (5, &["sales.order.*"], "3:3:"),
        (6, &["webhook.*"], "3:3:"),
    ]);
    assert_eq!(route(&router, &event("order.created", 10, None)), [1, 2, 3, 4]);
    assert_eq!(route(&router, &event("order.deleted", 10, None)), [2, 3, 4]);
    assert_eq!(route(&router, &event("sales.order.created", 10, None)), [3, 4, 5]);
    assert_eq!(route(&router, &event("webhook.subscription.updated", 10, None)), [6]);
}

#[test]
fn a_targeted_event_goes_to_its_subscription_alone() {
    let router = table(&[(1, &["*"], "3:3:"), (2, &["a.b"], "3:3:")]);
    assert_eq!(route(&router, &event("webhook.ping", 10, Some(2))), [2]);
    assert_eq!(route(&router, &event("webhook.ping", 10, Some(7))), [] as [i64; 0]);
}

#[test]
fn what_was_committed_before_a_subscription_does_not_match() {
    let router = table(&[(1, &["*"], "10:20:10,15")]);
    for (xid, gets) in [(9, false), (10, true), (12, false), (15, true), (20, true), (21, true)] {
        assert_eq!(!route(&router, &event("a.b", xid, None)).is_empty(), gets, "xid {xid}");
    }
}

#[test]
fn within_a_window_an_event_meets_the_patterns_of_its_moment() {
    let rule = |text: &str| Rule {
        patterns: [Pattern::parse(text).unwrap()].into(),
        exclude_origin: Box::default(),
        filter: None,
        audience: None,
    };
    let change = |event_id, subscription_id, previous: &str, text: &str| Change {
        event_id,
        subscription_id,
        rule: rule(text),
        previous: rule(previous),
    };
    let before = table(&[(1, &["a.x"], "3:3:"), (2, &["*"], "3:3:")]);
    let end = table(&[(1, &["a.x"], "3:3:"), (2, &["*"], "3:3:"), (3, &["b.*"], "3:3:")]);
    let changes = vec![
        change(10, 1, "a.x", "b.x"),
        change(15, 2, "*", "*"),
        change(18, 3, "a.*", "a.*"),
        change(20, 1, "b.x", "a.x"),
        change(30, 3, "a.*", "b.*"),
    ];
    // At the start of the daemon, the table before the window is not known.
    for before in [before.subscriptions(), &Subscriptions::new()] {
        let revisions = Revisions::new(before, changes.clone(), end.subscriptions());
        let at = |id: i64| {
            let mut matched = vec![99];
            let event = Event { id, event_type: "a.x".into(), ..Event::sample(id) };
            end.route_revised(&revisions, &event, None, &mut matched);
            matched.split_off(1)
        };
        assert_eq!(at(9), [1, 2, 3]);
        assert_eq!(at(11), [2, 3]);
        assert_eq!(at(21), [1, 2, 3]);
        assert_eq!(at(31), [1, 2]);
    }
}

#[test]
fn an_excluded_origin_gets_no_echo() {
    let excluding = |id, origins: &[&str]| {
        let exclude_origin = origins.iter().map(|origin| Box::from(*origin)).collect();
        (id, Arc::new(Subscription { exclude_origin, ..Subscription::sample(id) }))
    };
    let table = [excluding(1, &["crm"]), excluding(2, &["erp", "crm"]), excluding(3, &[])];
    let router = Router::new(table.into_iter().collect());
    for (origin, gets) in
        [(None, &[1, 2, 3][..]), (Some("crm"), &[3]), (Some("erp"), &[1, 3]), (Some("CRM"), &[1, 2, 3])]
    {
        let event = Event { origin: origin.map(Box::from), ..event("a.b", 10, None) };
        assert_eq!(route(&router, &event), gets, "{origin:?}");
        let to_one_alone = Event { subscription_id: Some(2), ..event };
        assert_eq!(route(&router, &to_one_alone), [2]);
    }
}

#[test]
fn within_a_window_origins_and_filters_are_those_of_the_moment() {
    let rule = |origin: &str, filter: Option<&str>| Rule {
        patterns: [Pattern::All].into(),
        exclude_origin: [origin.into()].into(),
        filter: filter.map(Arc::from),
        audience: None,
    };
    let subscription = |rule: Rule| {
        let Rule { patterns, exclude_origin, filter, .. } = rule;
        Arc::new(Subscription { patterns, exclude_origin, filter, ..Subscription::sample(1) })
    };
    let table = |rule| -> Subscriptions { [(1, subscription(rule))].into() };
    let changes = vec![
        Change { event_id: 10, subscription_id: 1, rule: rule("b", Some("$.y")), previous: rule("a", None) },
        Change { event_id: 20, subscription_id: 1, rule: rule("c", None), previous: rule("b", None) },
    ];
    let end = Router::new(table(rule("c", None)));
    let revisions = Revisions::new(&table(rule("a", Some("$.x"))), changes, end.subscriptions());
    for (id, origin, filter) in [(9, "a", Some("$.x")), (11, "b", Some("$.y")), (21, "c", None)] {
        for other in ["a", "b", "c"] {
            let event = Event { id, origin: Some(other.into()), ..Event::sample(id) };
            let mut matched = Vec::new();
            end.route_revised(&revisions, &event, None, &mut matched);
            assert_eq!(matched.is_empty(), other == origin, "event {id} from {other}");
            assert_eq!(end.filter(&revisions, &event, 1).map(|filter| &**filter), filter);
        }
    }
}

#[test]
fn within_a_window_an_event_meets_owner_and_scope_of_its_moment() {
    let audience = |owner: &str, scope| Some(Audience { owner: owner.into(), scope });
    let rule = |audience| Rule {
        patterns: [Pattern::All].into(),
        exclude_origin: Box::default(),
        filter: None,
        audience,
    };
    let change = |event_id, previous, now| Change {
        event_id,
        subscription_id: 1,
        rule: rule(now),
        previous: rule(previous),
    };
    let (of_a, of_b) = (audience("a", Scope::Own), audience("b", Scope::Own));
    let of_all = audience("b", Scope::All);
    let changes =
        vec![change(10, of_a.clone(), of_b.clone()), change(20, of_b, of_all), change(30, None, None)];
    let end: Subscriptions =
        [(1, Arc::new(Subscription { owner: "b".into(), ..Subscription::sample(1) }))].into();
    let end = Router::new(end);
    let revisions = Revisions::new(&Subscriptions::new(), changes, end.subscriptions())
        .with_internal(["secret.made".into()].into());
    let gets = |id, owner: &str, event_type: &str| {
        let mut matched = Vec::new();
        let event = Event { owner: Some(owner.into()), ..event(event_type, 10, None) };
        end.route_revised(&revisions, &Event { id, ..event }, None, &mut matched);
        !matched.is_empty()
    };
    let at = |id| ["a", "b", "c"].map(|owner| gets(id, owner, "a.x"));
    assert_eq!(at(9), [true, false, false]);
    assert_eq!(at(11), [false, true, false]);
    assert_eq!(at(21), [true, true, true]);
    assert_eq!(at(31), [true, true, true]);
    assert_eq!([11, 21].map(|id| gets(id, "b", "secret.made")), [false, true], "internal in the window");
}

#[test]
fn one_owner_among_many_is_found() {
    let own = |id: i64| Subscription {
        owner: format!("tenant-{id}").into(),
        scope: Scope::Own,
        ..Subscription::sample(id)
    };
    let mut router = Router::new((1..=1000).map(|id| (id, Arc::new(own(id)))).collect());
    router.set_internal(Arc::new(["staff.paid".into()].into()));
    let of = |owner: &str, event_type| Event { owner: Some(owner.into()), ..event(event_type, 10, None) };
    assert_eq!(route(&router, &of("tenant-7", "a.b")), [7]);
    assert_eq!(route(&router, &of("tenant-7", "staff.paid")), [] as [i64; 0]);
    assert_eq!(route(&router, &of("*", "a.b")).len(), 1000);
    assert_eq!(route(&router, &of("stranger", "a.b")), [] as [i64; 0]);
    assert_eq!(route(&router, &event("a.b", 10, None)), [] as [i64; 0]);
    assert_eq!(route(&router, &event("webhook.ping", 10, Some(9))), [9]);
}

#[test]
fn one_value_among_many_is_found() {
    let needing = |id: i64| Subscription {
        filter: Some(format!("($.\"data\".\"tenant\" == {id})").into()),
        ..Subscription::sample(id)
    };
    let router = Router::new((1..=1000).map(|id| (id, Arc::new(needing(id)))).collect());
    let event = |payload: &'static str| Event { payload: payload.as_bytes().into(), ..Event::sample(1) };
    let routed = |payload| looked_up(&router, &Revisions::default(), &event(payload));
    assert_eq!(routed(r#"{"tenant": 7.0}"#), [7]);
    assert_eq!(routed(r#"{"tenant": [7, 9, "8", 7]}"#), [7, 9]);
    assert_eq!(routed(r#"{"tenant": "7"}"#), [] as [i64; 0]);
    assert_eq!(routed(r#"{"tenant": 1e5000}"#).len(), 1000, "Postgres decides");
    let targeted = Event { subscription_id: Some(9), ..event(r#"{"tenant": 7}"#) };
    assert_eq!(looked_up(&router, &Revisions::default(), &targeted), [9], "no filter applies");
}

#[test]
fn within_a_window_a_value_is_that_of_the_moment() {
    let rule = |filter: &str| Rule {
        patterns: [Pattern::All].into(),
        exclude_origin: Box::default(),
        filter: Some(filter.into()),
        audience: None,
    };
    let (seven, eight) = ("$.data.a == 7", "$.data.a == 8");
    let end: Subscriptions =
        [(1, Arc::new(Subscription { filter: Some(eight.into()), ..Subscription::sample(1) }))].into();
    let end = Router::new(end);
    let changes = vec![Change { event_id: 10, subscription_id: 1, rule: rule(eight), previous: rule(seven) }];
    let revisions = Revisions::new(&Subscriptions::new(), changes, end.subscriptions());
    for (id, payload) in [(9, r#"{"a": 7}"#), (11, r#"{"a": 8}"#)] {
        let event = Event { payload: payload.as_bytes().into(), ..Event::sample(id) };
        assert_eq!(looked_up(&end, &revisions, &event), [1], "event {id}");
    }
}

/// Routes with the values that filters need.
fn looked_up(router: &Router, revisions: &Revisions, event: &Event) -> Vec<i64> {
    let mut matched = Vec::new();
    let document = Document::new(subject(event));
    router.route_revised(revisions, event, Some(&document), &mut matched);
    matched
}

/// Filters of all kinds: by value, and not.
fn filters() -> impl Strategy<Value = Option<&'static str>> {
    proptest::sample::select(vec![
        None,
        Some("$.a"),
        Some("$.data.a == 1"),
        Some("1 == $.data.a"),
        Some("$.data.a == 2"),
        Some("$.data.a == \"1\""),
        Some("$.data.a == null"),
        Some("$.data.a == true"),
        Some("$.data.a != 1"),
        Some("!($.data.a == 1)"),
        Some("$.data.a == 1 || $.data.b == 1"),
        Some("$.data.a == 1 && $.data.b.c == 2"),
        Some("$.data.b.c == 1 && $.data.a > 0"),
        Some("$ ?(@.data.b.c == 2)"),
        Some("$.data ?(@.a == 1)"),
        Some("$.data.a[*] == 2"),
        Some("$.key == \"a\""),
    ])
}

/// The payload of an event, with what filters compare.
fn payloads() -> impl Strategy<Value = String> {
    let scalar =
        || proptest::sample::select(vec!["1", "1.0", "2", "\"1\"", "null", "true", "1e5000", "\"\\u0000\""]);
    let value = prop_oneof![
        4 => scalar().prop_map(str::to_owned),
        2 => proptest::collection::vec(scalar(), 0..3).prop_map(|items| format!("[{}]", items.join(","))),
        1 => Just("[[1]]".to_owned()),
    ];
    (value.clone(), value, any::<bool>()).prop_map(|(a, c, is_array)| {
        let b = format!("{{\"c\": {c}}}");
        if is_array { format!("{{\"a\": {a}, \"b\": [{b}]}}") } else { format!("{{\"a\": {a}, \"b\": {b}}}") }
    })
}

fn audiences() -> impl Strategy<Value = (&'static str, Scope)> {
    (prop_oneof![Just("a"), Just("b"), Just("*")], prop_oneof![Just(Scope::Own), Just(Scope::All)])
}

proptest! {
    /// The index finds the same subscriptions as a linear scan with the rule of
    /// `webhook.scope_mismatch`, for any owners, scopes, patterns and internal types.
    #[test]
    fn agrees_with_a_linear_scan_over_owners(
        rows in proptest::collection::vec(
            (audiences(), proptest::collection::vec("\\*|[ab]\\.(\\*|[ab])", 1..4)), 0..12),
        internal in proptest::collection::hash_set("[ab]\\.[ab]", 0..3),
        events in proptest::collection::vec(
            (proptest::option::of("[ab*]"), "[ab]\\.[ab]|webhook\\.a", proptest::option::weighted(0.3, 1i64..14)), 1..20),
    ) {
        let table: Subscriptions = rows.iter().zip(1..).map(|(((owner, scope), patterns), id)| {
            let patterns = patterns.iter().map(|text| Pattern::parse(text).unwrap()).collect();
            let (owner, scope) = (Arc::from(*owner), *scope);
            (id, Arc::new(Subscription { owner, scope, patterns, ..Subscription::sample(id) }))
        }).collect();
        let mut router = Router::new(table.clone());
        router.set_internal(Arc::new(internal.iter().map(|name| name.as_str().into()).collect()));
        for (owner, event_type, target) in events {
            let event = Event { owner: owner.as_deref().map(Box::from), ..event(&event_type, 10, target) };
            let is_internal = internal.contains(&event_type);
            let gets = |subscription: &Subscription| {
                let is_in_scope = subscription.scope == Scope::All
                    || !is_internal && owner.as_deref().is_some_and(|of| of == &*subscription.owner || of == "*");
                match target {
                    Some(id) => id == subscription.id && (is_in_scope || is_reserved(&event_type)),
                    None => is_in_scope && subscription.patterns.iter().any(|pattern| pattern.matches(&event_type)),
                }
            };
            let mut wanted: Vec<i64> = table.values().filter(|row| gets(row)).map(|row| row.id).collect();
            wanted.sort_unstable();
            prop_assert_eq!(route(&router, &event), wanted);
        }
    }

    /// Looking values up leaves out only subscriptions whose filter rejects the event.
    #[test]
    fn what_is_left_out_is_rejected(
        rows in proptest::collection::vec(
            (audiences(), proptest::collection::vec("\\*|[ab]\\.(\\*|[ab])", 1..3), filters()), 0..20),
        owner in proptest::option::of("[ab*]"),
        payload in payloads(),
        key in proptest::option::of("[ab]"),
    ) {
        let table: Subscriptions = rows.iter().zip(1..).map(|(((owner, scope), patterns, filter), id)| {
            let patterns = patterns.iter().map(|text| Pattern::parse(text).unwrap()).collect();
            let (owner, scope, filter) = (Arc::from(*owner), *scope, filter.map(Arc::from));
            (id, Arc::new(Subscription { owner, scope, patterns, filter, ..Subscription::sample(id) }))
        }).collect();
        let router = Router::new(table.clone());
        let payload = payload.into_bytes().into();
        let (owner, key) = (owner.as_deref().map(Box::from), key.as_deref().map(Box::from));
        let event = Event { owner, key, payload, ..event("a.b", 10, None) };
        let rejects = |id: &i64| {
            let filter = table[id].filter.as_deref().and_then(PathFilter::parse);
            filter.is_some_and(|filter| filter.matches(&Document::new(subject(&event))) == Some(false))
        };
        let (mut found, mut wanted) = (looked_up(&router, &Revisions::default(), &event), route(&router, &event));
        wanted.retain(|id| !rejects(id));
        found.retain(|id| !rejects(id));
        prop_assert_eq!(found, wanted);
    }

    /// Within a window, the index finds the subscriptions whose rule of the moment matches.
    #[test]
    fn agrees_with_a_linear_scan_over_rules(
        rows in proptest::collection::vec((audiences(), "\\*|[ab]\\.(\\*|[ab])"), 1..8),
        changes in proptest::collection::vec(
            (1i64..8, proptest::option::of(audiences()), "\\*|[ab]\\.(\\*|[ab])", filters()), 0..12),
        owner in proptest::option::of("[ab*]"),
        event_type in "[ab]\\.[ab]",
        is_internal in any::<bool>(),
    ) {
        let audience = |(owner, scope): (&str, Scope)| Audience { owner: owner.into(), scope };
        let patterns = |text: &str| -> Arc<[Pattern]> { [Pattern::parse(text).unwrap()].into() };
        let mut rules: Vec<Rule> = rows.iter().map(|(of, pattern)| Rule {
            patterns: patterns(pattern),
            exclude_origin: Box::default(),
            filter: None,
            audience: Some(audience(*of)),
        }).collect();
        let table = |rules: &[Rule]| -> Subscriptions {
            let row = |(id, rule): (i64, &Rule)| {
                let Rule { patterns, filter, .. } = rule.clone();
                let Audience { owner, scope } = rule.audience.clone().unwrap();
                (id, Arc::new(Subscription { patterns, filter, owner, scope, ..Subscription::sample(id) }))
            };
            (1..).zip(rules).map(row).collect()
        };
        let before = table(&rules);
        let changes = (10..).step_by(10).zip(changes).filter_map(|(event_id, (id, of, pattern, filter))| {
            let rule = rules.get_mut(usize::try_from(id - 1).unwrap())?;
            let previous = rule.clone();
            rule.patterns = patterns(&pattern);
            rule.filter = filter.map(Arc::from);
            if let Some(of) = of {
                rule.audience = Some(audience(of));
            }
            Some(Change { event_id, subscription_id: id, rule: rule.clone(), previous })
        });
        let changes: Vec<Change> = changes.collect();
        let end = Router::new(table(&rules));
        let internal: InternalTypes = is_internal.then(|| event_type.as_str().into()).into_iter().collect();
        let revisions = Revisions::new(&before, changes, end.subscriptions()).with_internal(internal);
        for id in (5..130).step_by(10) {
            let owner = owner.as_deref().map(Box::from);
            let event = Event { id, owner, ..event(&event_type, 10, None) };
            let mut found = Vec::new();
            end.route_revised(&revisions, &event, None, &mut found);
            let matches = |(at, rule): (&i64, &Rule)| {
                revisions.then(*at, id).unwrap_or(rule).names(&event, is_internal)
            };
            let ids: Vec<i64> = (1..).take(rules.len()).collect();
            let wanted = ids.iter().zip(&rules).filter(|pair| matches(*pair)).map(|(id, _)| *id);
            prop_assert_eq!(found, wanted.collect::<Vec<_>>());
        }
    }

    /// The maps find the same subscriptions as a linear scan.
    #[test]
    fn agrees_with_a_linear_scan(
        rows in proptest::collection::vec(proptest::collection::vec("\\*|[ab](\\.[ab])?\\.(\\*|[ab])", 1..4), 0..12),
        event_type in "[ab](\\.[ab]){1,2}",
    ) {
        let patterns: Vec<Vec<&str>> = rows.iter().map(|row| row.iter().map(String::as_str).collect()).collect();
        let rows: Vec<(i64, &[&str], &str)> =
            patterns.iter().zip(1..).map(|(row, id)| (id, row.as_slice(), "3:3:")).collect();
        let wanted: Vec<i64> = rows.iter()
            .filter(|(_, row, _)| row.iter().any(|p| Pattern::parse(p).unwrap().matches(&event_type)))
            .map(|(id, ..)| *id).collect();
        prop_assert_eq!(route(&table(&rows), &event(&event_type, 10, None)), wanted);
    }

    /// A router that follows the changes equals a new one.
    #[test]
    fn an_update_equals_a_new_router(
        steps in proptest::collection::vec(
            proptest::collection::vec(
                (1i64..6, proptest::option::of((
                    proptest::collection::vec("\\*|[ab]\\.(\\*|[ab])", 0..4), filters(), any::<bool>(),
                    audiences(),
                ))),
                0..4,
            ),
            1..6,
        ),
    ) {
        let (mut router, mut table) = (Router::default(), Subscriptions::new());
        for step in steps {
            let mut loaded = Subscriptions::new();
            let ids: BTreeSet<i64> = step.iter().map(|(id, _)| *id).collect();
            for (id, options) in step {
                loaded.remove(&id);
                let Some((patterns, filter, has_order, (owner, scope))) = options else { continue };
                loaded.insert(id, Arc::new(Subscription {
                    patterns: patterns.iter().map(|text| Pattern::parse(text).unwrap()).collect(),
                    filter: filter.map(Arc::from),
                    owner: owner.into(),
                    scope,
                    ordering: if has_order { Ordering::Key } else { Ordering::None },
                    ..Subscription::sample(id)
                }));
            }
            for id in &ids {
                table.remove(id);
            }
            table.extend(loaded.clone());
            router.update(&Update::of(&Vec::from_iter(ids), loaded));
            let new = Router::new(table.clone());
            prop_assert_eq!(
                (router.index.in_words(), router.index.names(), router.filters, router.ordered),
                (new.index.in_words(), new.index.names(), new.filters, new.ordered)
            );
            prop_assert!(router.subscriptions.len() == table.len());
            router.update(&Update::All(Arc::new(table.clone())));
        }
    }
}
