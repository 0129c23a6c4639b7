//! Tests the judge with captures that it must accept or reject.

use super::{object::members, *};

fn tables() -> HashMap<String, Table> {
    let table = |is_stamped, is_key_unique| Table { is_stamped, is_key_unique };
    [("t", table(true, true)), ("row", table(true, false)), ("plain", table(false, true))]
        .map(|(noun, table)| (noun.to_owned(), table))
        .into()
}

fn data(key: i64, v: i64) -> String {
    format!(r#"{{"id":{key},"a":"x, {{\"y\": 1}}","v":{v}}}"#)
}

/// Builds notes and events of one transaction.
struct Scene {
    clock: i64,
    sequence: i64,
    xid: i64,
    notes: Vec<Note>,
    events: Vec<Event>,
}

impl Scene {
    fn new() -> Self {
        Self { clock: 100, sequence: 0, xid: 7, notes: Vec::new(), events: Vec::new() }
    }

    fn at(&mut self) -> i64 {
        self.clock += 1;
        self.clock
    }

    fn note(&mut self, noun: &str, operation: char, is_made: bool) -> &mut Note {
        let note = Note {
            at: self.at(),
            xid: self.xid,
            tag: format!("x{}", self.xid),
            noun: noun.to_owned(),
            operation,
            is_made,
            ..Note::default()
        };
        self.notes.push(note);
        self.notes.last_mut().expect("just pushed")
    }

    /// Adds the note of a BEFORE trigger and returns its stamp.
    fn stamp(&mut self, noun: &str, operation: char, former: Option<i64>, given: Option<i64>) -> i64 {
        let note = self.note(noun, operation, false);
        (note.former_v, note.given_v) = (former, given);
        note.v = (operation != 'D').then_some(note.at);
        note.at
    }

    fn made(&mut self, noun: &str, operation: char, former: Option<(i64, i64)>, now: Option<(i64, i64)>) {
        let note = self.note(noun, operation, true);
        (note.former_v, note.v) = (former.map(|(_, v)| v), now.map(|(_, v)| v));
        (note.former_key, note.key) = (former.map(|(k, _)| k.to_string()), now.map(|(k, _)| k.to_string()));
        (note.former, note.data) = (former.map(|(k, v)| data(k, v)), now.map(|(k, v)| data(k, v)));
    }

    fn event(&mut self, noun: &str, kind: Kind, key: i64, v: i64, former: Option<(i64, i64)>) {
        self.sequence += 1;
        self.events.push(Event {
            id: self.sequence,
            xid: self.xid,
            noun: noun.to_owned(),
            kind: Some(kind),
            key: Some(key.to_string()),
            data: data(key, v),
            previous: former.map(|(k, v0)| changed(&data(k, v0), &data(key, v))),
        });
    }

    fn judge(&self) -> Report {
        judge(&self.notes, &self.events, &tables())
    }

    fn faults(&self) -> Vec<Fault> {
        self.judge().findings.iter().map(|finding| finding.fault).collect()
    }
}

/// Inserts row 1, which a trigger changes before the row's AFTER triggers have fired.
fn nested() -> (Scene, i64, i64) {
    let mut scene = Scene::new();
    let one = scene.stamp("t", 'I', None, None);
    let two = scene.stamp("t", 'U', Some(one), None);
    scene.made("t", 'U', Some((1, one)), Some((1, two)));
    scene.made("t", 'I', None, Some((1, one)));
    (scene, one, two)
}

#[test]
fn changes_in_true_order_are_right() {
    let (mut scene, one, two) = nested();
    scene.event("t", Kind::Created, 1, one, None);
    scene.event("t", Kind::Updated, 1, two, Some((1, one)));
    let report = scene.judge();
    assert_eq!(report.findings, []);
    assert_eq!((report.changes, report.events, report.lines), (2, 2, 1));
}

#[test]
fn a_nested_change_before_its_cause_is_out_of_order() {
    let (mut scene, one, two) = nested();
    scene.event("t", Kind::Updated, 1, two, Some((1, one)));
    scene.event("t", Kind::Created, 1, one, None);
    let report = scene.judge();
    assert_eq!(scene.faults(), [Fault::OutOfOrder]);
    assert!(report.findings[0].text.contains("the last event is not the last change"));
}

#[test]
fn another_line_has_an_order_of_its_own() {
    let (mut scene, one, two) = nested();
    let other = scene.stamp("t", 'I', None, None);
    scene.made("t", 'I', None, Some((2, other)));
    scene.event("t", Kind::Created, 2, other, None);
    scene.event("t", Kind::Created, 1, one, None);
    scene.event("t", Kind::Updated, 1, two, Some((1, one)));
    assert_eq!(scene.faults(), []);
}

#[test]
fn what_is_lost_or_invented_or_doubled_is_found() {
    let (mut scene, one, two) = nested();
    scene.event("t", Kind::Updated, 1, two, Some((1, one)));
    assert_eq!(scene.faults(), [Fault::NotCaptured]);
    scene.event("t", Kind::Created, 5, 999, None);
    assert_eq!(scene.faults(), [Fault::NotCaptured, Fault::NotCommitted]);
    let (mut scene, one, two) = nested();
    for _ in 0..2 {
        scene.event("t", Kind::Created, 1, one, None);
    }
    scene.event("t", Kind::Updated, 1, two, Some((1, one)));
    assert_eq!(scene.faults(), [Fault::Doubled]);
}

#[test]
fn data_previous_key_and_transaction_are_compared() {
    let (mut scene, one, two) = nested();
    scene.event("t", Kind::Created, 1, one, None);
    scene.event("t", Kind::Updated, 1, two, Some((1, one)));
    scene.events[0].data = scene.events[0].data.replace("\"a\":\"x", "\"a\":\"z");
    scene.events[0].key = Some("01".to_owned());
    scene.events[1].previous = None;
    scene.events[1].xid = 8;
    let found = scene.faults();
    for fault in [Fault::OtherData, Fault::OtherKey, Fault::OtherPrevious, Fault::OtherTransaction] {
        assert!(found.contains(&fault), "{fault:?} in {found:?}");
    }
}

#[test]
fn a_suppressed_or_conflicting_insert_is_no_change() {
    let mut scene = Scene::new();
    scene.stamp("t", 'I', None, None);
    scene.stamp("t", 'D', Some(3), None);
    assert_eq!((scene.judge().changes, scene.faults()), (0, vec![]));
}

/// Moves a row of version 50 to another partition.
fn moved(scene: &mut Scene) -> i64 {
    let update = scene.stamp("row", 'U', Some(50), None);
    scene.stamp("row", 'D', Some(50), None);
    let there = scene.stamp("row", 'I', None, Some(update));
    scene.made("row", 'D', Some((1, 50)), None);
    scene.made("row", 'I', None, Some((1, there)));
    there
}

#[test]
fn a_move_is_one_update() {
    let mut scene = Scene::new();
    let there = moved(&mut scene);
    scene.event("row", Kind::Updated, 1, there, Some((1, 50)));
    let report = scene.judge();
    assert_eq!((report.findings.len(), report.changes, report.moves), (0, 1, 1));
}

#[test]
fn a_move_that_comes_as_two_is_another_kind() {
    let mut scene = Scene::new();
    let there = moved(&mut scene);
    scene.event("row", Kind::Deleted, 1, 50, None);
    scene.event("row", Kind::Created, 1, there, None);
    assert_eq!(scene.faults(), [Fault::OtherKind]);
}

#[test]
fn a_move_whose_arrival_is_suppressed_is_a_deletion() {
    let mut scene = Scene::new();
    let update = scene.stamp("row", 'U', Some(50), None);
    scene.stamp("row", 'D', Some(50), None);
    scene.made("row", 'D', Some((1, 50)), None);
    scene.event("row", Kind::Deleted, 1, 50, None);
    assert_eq!(scene.faults(), []);
    assert_eq!(update, 101);
}

#[test]
fn a_change_of_the_key_may_be_one_event_or_two() {
    let scene = || {
        let mut scene = Scene::new();
        let v = scene.stamp("t", 'U', Some(50), None);
        scene.made("t", 'U', Some((1, 50)), Some((2, v)));
        (scene, v)
    };
    let (mut one, v) = scene();
    one.event("t", Kind::Updated, 2, v, Some((1, 50)));
    assert_eq!((one.faults(), one.judge().key_updates), (vec![], 1));
    let (mut two, v) = scene();
    two.event("t", Kind::Deleted, 1, 50, None);
    two.event("t", Kind::Created, 2, v, None);
    assert_eq!((two.faults(), two.judge().key_splits), (vec![], 1));
    // One table uses one form.
    let next = two.stamp("t", 'U', Some(v), None);
    two.made("t", 'U', Some((2, v)), Some((3, next)));
    two.event("t", Kind::Updated, 3, next, Some((2, v)));
    assert_eq!(two.faults(), [Fault::OtherForm]);
}

#[test]
fn a_changed_key_is_in_both_lines() {
    let mut scene = Scene::new();
    let v = scene.stamp("t", 'U', Some(50), None);
    scene.made("t", 'U', Some((1, 50)), Some((2, v)));
    let again = scene.stamp("t", 'I', None, None);
    scene.made("t", 'I', None, Some((1, again)));
    scene.event("t", Kind::Created, 1, again, None);
    scene.event("t", Kind::Updated, 2, v, Some((1, 50)));
    assert_eq!(scene.faults(), [Fault::OutOfOrder]);
}

#[test]
fn transactions_follow_each_other_by_what_they_noted() {
    let mut scene = Scene::new();
    // The second transaction's insert starts first and waits for the first transaction.
    let waiting = scene.stamp("t", 'I', None, None);
    let d = scene.stamp("t", 'D', Some(50), None);
    scene.notes.iter_mut().find(|n| n.at == waiting).expect("noted").xid = 8;
    scene.made("t", 'D', Some((1, 50)), None);
    scene.event("t", Kind::Deleted, 1, 50, None);
    scene.xid = 8;
    scene.made("t", 'I', None, Some((1, waiting)));
    scene.event("t", Kind::Created, 1, waiting, None);
    assert!(waiting < d);
    assert_eq!(scene.faults(), []);
}

#[test]
fn an_emptied_table_ends_every_line() {
    let mut scene = Scene::new();
    let v = scene.stamp("t", 'I', None, None);
    scene.made("t", 'I', None, Some((1, v)));
    scene.made("t", 'T', None, None);
    let truncated = Event {
        noun: "t".into(),
        kind: Some(Kind::Truncated),
        xid: 7,
        data: "{}".into(),
        ..Event::default()
    };
    scene.event("t", Kind::Created, 1, v, None);
    scene.events.push(Event { id: 2, ..truncated.clone() });
    assert_eq!(scene.faults(), []);
    scene.events[1].id = 0;
    assert_eq!(scene.faults(), [Fault::OutOfOrder]);
}

#[test]
fn rows_without_a_unique_key_have_lines_of_their_own() {
    let mut scene = Scene::new();
    let (a, b) = (scene.stamp("row", 'I', None, None), scene.stamp("row", 'I', None, None));
    scene.made("row", 'I', None, Some((1, a)));
    scene.made("row", 'I', None, Some((1, b)));
    scene.event("row", Kind::Created, 1, b, None);
    scene.event("row", Kind::Created, 1, a, None);
    assert_eq!((scene.faults(), scene.judge().lines), (vec![], 2));
}

#[test]
fn members_are_cut_where_they_end() {
    let object = r#"{"a":{"b":[1,{"c":"}"}]},"d\"e":"x,\"y\\","f":null}"#;
    let expected = [("\"a\"", r#"{"b":[1,{"c":"}"}]}"#), (r#""d\"e""#, r#""x,\"y\\""#), ("\"f\"", "null")];
    assert_eq!(members(object), expected);
    assert_eq!(members("{}"), []);
    assert_eq!(version(r#"{"a":"\"v\":3","v":12}"#), Some(12));
    assert_eq!(changed(r#"{"a":1,"b":2}"#, r#"{"a":1,"b":3}"#), r#"{"b":2}"#);
}
