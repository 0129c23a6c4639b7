//! The body of a delivery, made from the event row alone: the same bytes for every attempt. Pure.
//!
//! `data` and `previous` are embedded as they were stored, not parsed: number spelling and key order stay.

use crate::event::Event;
use bytes::Bytes;
use std::io::Write;

/// Room for the fixed text, two numbers and the timestamp.
const FIXED_BYTES: usize = 200;

/// The id receivers see: SQL's `webhook.public_id(id, created_at)`.
pub fn public_id(event: &Event) -> String {
    format!("evt_{:014x}{:x}", event.created_at_us, event.id)
}

/// The body in format `standard`: UTF-8, never empty.
pub fn body(event: &Event) -> Bytes {
    let text = |t: &Option<Box<str>>| t.as_ref().map_or(0, |t| t.len());
    let mut out = Vec::with_capacity(
        FIXED_BYTES
            + event.event_type.len()
            + text(&event.table_name)
            + text(&event.actor)
            + event.payload.len()
            + event.previous.as_ref().map_or(0, Bytes::len),
    );
    // Writing into a Vec cannot fail.
    let _ = write!(out, r#"{{"id":"evt_{:014x}{:x}","type":"#, event.created_at_us, event.id);
    push_text(&mut out, &event.event_type);
    out.extend_from_slice(br#","timestamp":""#);
    push_timestamp(&mut out, event.created_at_us);
    let _ = write!(out, r#"","sequence":{}"#, event.id);
    if let Some(table) = &event.table_name {
        out.extend_from_slice(br#","table":"#);
        push_text(&mut out, table);
    }
    if let Some(actor) = &event.actor {
        out.extend_from_slice(br#","actor":"#);
        push_text(&mut out, actor);
    }
    if event.truncated {
        out.extend_from_slice(br#","truncated":true"#);
    }
    out.extend_from_slice(br#","data":"#);
    out.extend_from_slice(&event.payload);
    if let Some(previous) = &event.previous {
        out.extend_from_slice(br#","previous":"#);
        out.extend_from_slice(previous);
    }
    out.push(b'}');
    out.into()
}

/// A JSON string, quotes included.
fn push_text(out: &mut Vec<u8>, text: &str) {
    // Neither a string nor a Vec can make serde_json fail.
    let _ = serde_json::to_writer(out, text);
}

/// RFC 3339 in UTC with six digits of the second: `2026-11-22T03:38:00.123456Z`.
fn push_timestamp(out: &mut Vec<u8>, us: i64) {
    let (days, of_day) = (us.div_euclid(86_400_000_000), us.rem_euclid(86_400_000_000));
    let (year, month, day) = civil(days);
    let (second, micro) = (of_day / 1_000_000, of_day % 1_000_000);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micro:06}Z");
}

/// Year, month and day of a number of days since 1970-01-01 in the proleptic Gregorian calendar: 400-year cycles of
/// 146 097 days, and years that begin in March, so that the leap day comes last.
fn civil(days: i64) -> (i64, i64, i64) {
    let from_march_0000 = days + 719_468;
    let (cycle, day_of_cycle) = (from_march_0000.div_euclid(146_097), from_march_0000.rem_euclid(146_097));
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (cycle * 400 + year_of_cycle + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::time::{Duration, SystemTime};

    fn event() -> Event {
        Event {
            id: 42,
            slot: 3,
            xid: 7,
            created_at_us: 1_795_318_680_123_456,
            subscription_id: None,
            truncated: false,
            event_type: "order.updated".into(),
            table_name: Some("public.orders".into()),
            key: Some("17".into()),
            actor: Some("user:7".into()),
            origin: None,
            traceparent: None,
            payload: Bytes::from_static(br#"{"id":17, "total":1.50}"#),
            previous: Some(Bytes::from_static(br#"{"total":1.0}"#)),
        }
    }

    #[test]
    fn known_answer() {
        assert_eq!(
            body(&event()),
            concat!(
                r#"{"id":"evt_0660d5342ff8402a","type":"order.updated","timestamp":"2026-11-22T03:38:00.123456Z","#,
                r#""sequence":42,"table":"public.orders","actor":"user:7","#,
                r#""data":{"id":17, "total":1.50},"previous":{"total":1.0}}"#
            )
        );
        assert_eq!(public_id(&event()), "evt_0660d5342ff8402a");
    }

    #[test]
    fn what_there_is_not_is_absent() {
        let bare = Event {
            table_name: None,
            actor: None,
            previous: None,
            truncated: true,
            payload: Bytes::from_static(b"null"),
            ..event()
        };
        let parsed: Value = serde_json::from_slice(&body(&bare)).unwrap();
        assert_eq!(
            parsed,
            json!({"id": public_id(&bare), "type": "order.updated", "timestamp": "2026-11-22T03:38:00.123456Z",
                   "sequence": 42, "truncated": true, "data": null})
        );
    }

    /// The time of day and the calendar, against another implementation.
    fn expected(us: i64) -> String {
        let http = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_micros(us.unsigned_abs()));
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let month = months.iter().position(|m| *m == &http[8..11]).unwrap() + 1;
        format!("{}-{month:02}-{}T{}.{:06}Z", &http[12..16], &http[5..7], &http[17..25], us % 1_000_000)
    }

    #[test]
    fn the_calendar_has_its_leap_days() {
        for (us, want) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399_999_999, "2000-02-28T23:59:59.999999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
        ] {
            let mut out = Vec::new();
            push_timestamp(&mut out, us);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }

    prop_compose! {
        fn events()(
            id in 1i64.., created_at_us in 0i64..=253_402_300_799_999_999, truncated: bool,
            actor in proptest::option::of(any::<String>()), table in proptest::option::of("[ -~]{0,20}\\.\"[a-zäöü\u{2028}]*\""),
            payload in "[a-z\\PC]{0,40}", previous in proptest::option::of(any::<i64>()),
        ) -> Event {
            Event {
                id, created_at_us, truncated,
                actor: actor.map(Into::into),
                table_name: table.map(Into::into),
                payload: serde_json::to_vec(&json!({ "x": payload })).unwrap().into(),
                previous: previous.map(|n| n.to_string().into()),
                ..event()
            }
        }
    }

    proptest! {
        #[test]
        fn it_parses_back_to_its_parts(event in events()) {
            let bytes = body(&event);
            prop_assert_eq!(&bytes, &body(&event));
            let mut parsed: serde_json::Map<String, Value> = serde_json::from_slice(&bytes).unwrap();
            let mut take = |name: &str| parsed.remove(name);
            let text = |t: &Option<Box<str>>| t.as_ref().map(|t| json!(t));
            prop_assert_eq!(take("id"), Some(json!(public_id(&event))));
            prop_assert_eq!(take("type"), Some(json!(event.event_type)));
            prop_assert_eq!(take("timestamp"), Some(json!(expected(event.created_at_us))));
            prop_assert_eq!(take("sequence"), Some(json!(event.id)));
            prop_assert_eq!(take("table"), text(&event.table_name));
            prop_assert_eq!(take("actor"), text(&event.actor));
            prop_assert_eq!(take("truncated"), event.truncated.then_some(json!(true)));
            prop_assert_eq!(take("data"), Some(serde_json::from_slice(&event.payload).unwrap()));
            prop_assert_eq!(take("previous"), event.previous.as_ref().map(|p| serde_json::from_slice(p).unwrap()));
            prop_assert!(parsed.is_empty());
        }
    }
}
