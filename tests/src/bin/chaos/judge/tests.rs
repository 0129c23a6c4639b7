//! Proves that the judge finds every kind of fault, and nothing in clean evidence.

use super::*;
use std::time::SystemTime;

/// Returns a moment, in milliseconds of the run.
fn at(ms: u64) -> Instant {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *START.get_or_init(Instant::now) + Duration::from_secs(60) + Duration::from_millis(ms)
}

/// Returns a request about event `number` that arrived and was answered at these times.
fn request(number: u32, came: u64, answered: Option<(u64, u16)>) -> Received {
    Received {
        method: "POST".to_owned(),
        path: "/".to_owned(),
        arrived: at(came),
        arrived_at: SystemTime::now(),
        headers: vec![("webhook-id".to_owned(), format!("evt_{number}"))],
        body: format!("{{\"sequence\":{number},\"data\":{{\"id\":{}}}}}", number % 2).into(),
        verified: Ok(()),
        answered: answered.map(|(ms, status)| (at(ms), status)),
    }
}

fn fault(harm: Harm, began: u64, ended: u64) -> Happened {
    Happened { harm, began: at(began), ended: at(ended) }
}

/// Returns evidence of six events, each delivered and written once, a second apart, and of a
/// harmful fault at 2 505 ms.
fn evidence() -> Evidence {
    let mut evidence = Evidence { faults: vec![fault(Harm::Results, 2_505, 2_510)], ..Evidence::default() };
    let mut delivered = Delivered { ordered_attempts_max: Some(3), ..Delivered::default() };
    for number in 1..=6 {
        let came = u64::from(number) * 1_000;
        *evidence.committed.entry(("order.created".to_owned(), number.to_string())).or_default() += 1;
        evidence.events.push((format!("evt_{number}"), "order.created".to_owned(), number.to_string()));
        delivered.requests.push(request(number, came, Some((came + 5, 200))));
        delivered.attempts.insert(format!("evt_{number}"), Attempts { answered: 1, succeeded: 1 });
    }
    evidence.delivered.push(delivered);
    evidence
}

/// Returns the report on changed evidence, after checking that the judge accepts the unchanged one.
fn judged(change: impl FnOnce(&mut Evidence)) -> Report {
    let mut evidence = evidence();
    assert!(judge(&evidence).is_kept());
    change(&mut evidence);
    judge(&evidence)
}

#[test]
fn where_nothing_is_wrong_nothing_is_found() {
    let clean = Report { events: 6, faults: 1, harmful: 1, ..Report::default() };
    assert_eq!(judge(&evidence()), clean);
}

#[test]
fn a_lost_event() {
    let report = judged(|evidence| drop(evidence.delivered[0].requests.remove(3)));
    assert_eq!((report.lost, report.is_kept()), (1, false));
    let report = judged(|evidence| evidence.delivered[0].requests[3].answered = Some((at(4_005), 500)));
    assert_eq!((report.lost, report.is_kept()), (1, false), "it came, and was never taken");
}

#[test]
fn a_phantom() {
    let report =
        judged(|evidence| evidence.delivered[0].requests.push(request(9, 9_000, Some((9_005, 200)))));
    assert_eq!((report.phantom, report.is_kept()), (1, false));
}

#[test]
fn a_change_without_event_and_an_event_without_change() {
    let report = judged(|evidence| {
        evidence.committed.insert(("order.updated".to_owned(), "1".to_owned()), 1);
    });
    assert_eq!((report.not_captured, report.is_kept()), (1, false));
    let report = judged(|evidence| {
        evidence.committed.remove(&("order.created".to_owned(), "1".to_owned()));
    });
    assert_eq!((report.not_committed, report.is_kept()), (1, false));
}

#[test]
fn what_a_recovery_has_undone_is_no_phantom() {
    let with = |came: u64, number: u32| {
        judged(|evidence| {
            evidence.faults.push(fault(Harm::Undone, 8_000, 10_000));
            evidence.delivered[0].requests.push(request(number, came, Some((came + 5, 200))));
        })
    };
    let report = with(9_000, 9);
    assert_eq!((report.undone, report.phantom, report.is_kept()), (1, 0, true));
    let report = with(7_000, 9);
    assert_eq!((report.undone, report.phantom, report.is_kept()), (0, 1, false), "before the point in time");
    let report = with(11_000, 9);
    assert_eq!((report.undone, report.phantom, report.is_kept()), (0, 1, false), "after the recovery");
}

#[test]
fn a_number_that_is_used_twice() {
    let report = judged(|evidence| {
        evidence.faults.push(fault(Harm::Undone, 8_000, 10_000));
        let mut again = request(9, 9_000, Some((9_005, 200)));
        again.body = b"{\"sequence\":3,\"data\":{\"id\":1}}".to_vec().into();
        evidence.delivered[0].requests.push(again);
    });
    assert_eq!((report.undone, report.numbers_used_twice, report.is_kept()), (1, 1, false));
}

#[test]
fn a_broken_order() {
    // Events 2 and 4 have the same key.
    let report = judged(|evidence| evidence.delivered[0].requests[1].answered = Some((at(4_001), 200)));
    assert_eq!((report.out_of_order.len(), report.is_kept()), (1, false));
}

#[test]
fn another_body() {
    let report = judged(|evidence| {
        let mut again = request(2, 2_550, Some((2_555, 200)));
        again.body = b"{\"sequence\":2,\"data\":{\"id\":0,\"more\":1}}".to_vec().into();
        evidence.delivered[0].requests.insert(2, again);
    });
    assert_eq!((report.changed_bodies, report.is_kept()), (1, false));
}

/// Returns the report if event 2 is accepted twice and its first answer comes at `answered`.
fn taken_twice(answered: u64, faults: Vec<Happened>) -> Report {
    judged(|evidence| {
        evidence.faults = faults;
        evidence.delivered[0].requests[1] = request(2, 2_000, Some((answered, 200)));
        evidence.delivered[0].requests.insert(2, request(2, 3_000, Some((3_005, 200))));
    })
}

#[test]
fn a_duplicate_is_paid_for_by_what_was_in_flight_or_not_written() {
    let harm = || vec![fault(Harm::Results, 2_505, 2_510)];
    let kept = |report: Report| (report.duplicates, report.duplicates_max, report.is_kept());
    assert_eq!(kept(taken_twice(2_500, harm())), (1, 1, true), "answered just before: not written");
    assert_eq!(kept(taken_twice(2_520, harm())), (1, 1, true), "under way");
    assert_eq!(kept(taken_twice(2_300, harm())), (1, 0, false), "that was written long ago");
    let harmless = vec![fault(Harm::None, 2_505, 2_510)];
    assert_eq!(
        kept(taken_twice(2_500, harmless)),
        (1, 0, false),
        "one that takes nothing away pays for nothing"
    );
    let crash = vec![fault(Harm::ResultsAndUnflushedCommits, 2_505, 3_000)];
    assert_eq!(kept(taken_twice(2_300, crash)), (1, 1, true), "the commit was lost with the server");
    let held = vec![fault(Harm::Delay, 2_100, 2_450), fault(Harm::Results, 2_505, 2_510)];
    assert_eq!(kept(taken_twice(2_200, held)), (1, 1, true), "nothing could be written since");
    let twice = vec![fault(Harm::Results, 2_502, 2_503), fault(Harm::Results, 2_505, 2_510)];
    assert_eq!(kept(taken_twice(2_500, twice)), (1, 1, true), "two faults do not pay twice for one request");
}

#[test]
fn one_duplicate_too_many() {
    let report = judged(|evidence| {
        evidence.delivered[0].requests[1] = request(2, 2_000, Some((2_500, 200)));
        evidence.delivered[0].requests.insert(2, request(2, 3_000, Some((3_005, 200))));
        evidence.delivered[0].requests.insert(3, request(2, 3_010, Some((3_015, 200))));
    });
    assert_eq!((report.duplicates, report.duplicates_max, report.is_kept()), (2, 1, false));
}

#[test]
fn an_attempt_without_a_request() {
    let report = judged(|evidence| {
        evidence.delivered[0].attempts.insert("evt_4".to_owned(), Attempts { answered: 2, succeeded: 1 });
    });
    assert_eq!((report.unknown_attempts, report.is_kept()), (1, false));
    let report = judged(|evidence| assert!(evidence.delivered[0].attempts.remove("evt_4").is_some()));
    assert_eq!(
        (report.unknown_attempts, report.is_kept()),
        (1, false),
        "delivered, and no success was written"
    );
}

#[test]
fn a_request_without_an_attempt() {
    let failed = |came: u64| request(4, came, Some((came + 5, 500)));
    let report = judged(|evidence| evidence.delivered[0].requests.insert(3, failed(3_900)));
    assert_eq!((report.unknown_requests, report.unknown_requests_max, report.is_kept()), (1, 0, false));
    let report = judged(|evidence| evidence.delivered[0].requests.insert(2, failed(2_450)));
    assert_eq!((report.unknown_requests, report.unknown_requests_max, report.is_kept()), (1, 1, true));
    let report = judged(|evidence| evidence.delivered[0].requests.insert(2, request(4, 3_900, None)));
    assert!(report.is_kept(), "torn down: the same attempt may have made it again at once");
}

#[test]
fn a_run_that_shows_nothing() {
    let met = |count: u64| {
        // Each fault begins while a request is in flight, or long after the last one.
        let faults = (0..20).map(|number| if number < count { 2_001 + number } else { 20_000 + number });
        let faults = faults.map(|began| fault(Harm::Results, began, began)).collect();
        let report = judged(|evidence| evidence.faults = faults);
        assert_eq!((report.harmful, report.struck), (20, count as usize));
        report.is_kept()
    };
    assert_eq!([0, 4, 5, 20].map(met), [false, false, true, true]);
}
