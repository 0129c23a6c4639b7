//! Texts that all formats use: ids, times, JSON strings, and percent-encoding.

use crate::event::Event;
use http::header::HeaderValue;
use std::io::Write;

/// Returns the event's public id, like `webhook.public_id(id, created_at)` in SQL.
pub fn public_id(event: &Event) -> String {
    format!("evt_{:014x}{:x}", event.created_at_us, event.id)
}

/// Writes a JSON string with its quotes.
pub fn push_text(out: &mut Vec<u8>, text: &str) {
    // serde_json cannot fail on a string and a Vec.
    let _ = serde_json::to_writer(out, text);
}

/// Writes a time in RFC 3339, in UTC with microseconds: `2026-11-22T03:38:00.123456Z`.
pub fn push_timestamp(out: &mut Vec<u8>, us: i64) {
    let (days, of_day) = (us.div_euclid(86_400_000_000), us.rem_euclid(86_400_000_000));
    let (year, month, day) = civil(days);
    let (second, micro) = (of_day / 1_000_000, of_day % 1_000_000);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micro:06}Z");
}

/// Returns the same time as a text.
pub fn timestamp(us: i64) -> String {
    let mut out = Vec::with_capacity(27);
    push_timestamp(&mut out, us);
    String::from_utf8(out).unwrap_or_default()
}

/// Converts a number of days since 1970-01-01 to year, month, and day of the proleptic Gregorian
/// calendar. It counts in 400-year cycles of 146 097 days. Its years begin in March, so the leap
/// day is the last day of a year.
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

/// Percent-encodes every byte for which `stays` returns false.
pub fn percent_encoded(text: &str, stays: impl Fn(u8) -> bool) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if stays(byte) {
            out.push(char::from(byte));
        } else {
            out.extend([
                '%',
                char::from(HEX[usize::from(byte >> 4)]),
                char::from(HEX[usize::from(byte & 15)]),
            ]);
        }
    }
    out
}

/// Maximum length of a header value, in bytes. Keys and actors have any length, and receivers limit
/// all headers together, for example to 8 or 16 KiB.
pub const HEADER_VALUE_BYTES_MAX: usize = 2048;

/// Encodes a text as a header value, as the HTTP binding of CloudEvents 1.0 requires (3.1.3.2).
/// Characters outside U+0021 to U+007E, the quotation mark, and the percent sign are
/// percent-encoded in UTF-8. Returns `None` if the value is longer than
/// [`HEADER_VALUE_BYTES_MAX`]. A part of a key could be taken for another key, so the value is not
/// cut.
pub fn header_value(text: &str) -> Option<HeaderValue> {
    if text.len() > HEADER_VALUE_BYTES_MAX {
        return None;
    }
    let encoded = percent_encoded(text, |byte| matches!(byte, 0x21..=0x7e) && byte != b'"' && byte != b'%');
    HeaderValue::try_from(encoded).ok().filter(|value| value.len() <= HEADER_VALUE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, SystemTime};

    /// Formats the time with an independent calendar.
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
            assert_eq!(timestamp(us), want);
        }
    }

    /// Includes the example of the HTTP binding, 3.1.3.2.
    #[test]
    fn a_header_value_is_printable_and_without_quotation_marks() {
        let value = |text| header_value(text).unwrap().to_str().unwrap().to_owned();
        assert_eq!(value("Euro € 😀"), "Euro%20%E2%82%AC%20%F0%9F%98%80");
        assert_eq!(value("100% \"sure\"\r\nx: y\u{7f}"), "100%25%20%22sure%22%0D%0Ax:%20y%7F");
        assert_eq!(value(""), "");
    }

    proptest! {
        #[test]
        fn timestamps_agree_with_another_calendar(us in 0i64..=253_402_300_799_999_999) {
            prop_assert_eq!(timestamp(us), expected(us));
        }

        #[test]
        fn a_header_value_decodes_to_the_text(text in "\\PC*|[ -~]*|.*") {
            let value = header_value(&text).unwrap();
            prop_assert!(value.as_bytes().iter().all(|byte| (0x21..=0x7e).contains(byte) && *byte != b'"'));
            // The independent decoder is for forms, so a plus would become a space.
            let escaped = value.to_str().unwrap().replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
            let decoded: Vec<_> = url::form_urlencoded::parse(escaped.as_bytes()).collect();
            prop_assert_eq!(decoded.first().map_or("", |(name, _)| name), text);
        }
    }
}
