//! Writes successes with COPY.
//!
//! Postgres then logs a page of rows with one record, which saves a fifth to a quarter of the WAL
//! of an attempt (docs/BENCHMARKS.md). The module encodes rows for one partition of
//! `webhook.attempt`. It handles only attempts that succeeded and change no queue row.

use crate::ledger::batch::Attempts;
use bytes::{BufMut, Bytes, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, Type};

/// Minimum number of rows for COPY, which takes two round trips. INSERT takes one.
pub const ROWS_MIN: usize = 32;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// The columns of every row. [`REST`] follows if the rows are not plain.
const PLAIN: &str = "event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, status, outcome, first_byte_ms";
const REST: &str = ", dns_ms, connect_ms, tls_ms, batch_id";

/// Returns the COPY statement. It names the partition, so Postgres does no routing.
pub fn statement(slot: i16, is_plain: bool) -> String {
    let rest = if is_plain { "" } else { REST };
    format!("copy webhook.attempt_{slot} ({PLAIN}{rest}) from stdin (format binary)")
}

/// Appends one value with its length.
fn put(out: &mut BytesMut, ty: &Type, value: &dyn ToSql) -> Option<()> {
    let at = out.len();
    out.put_i32(-1);
    if let IsNull::No = value.to_sql_checked(ty, out).ok()? {
        let length = i32::try_from(out.len() - at - 4).ok()?;
        out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }
    Some(())
}

/// Encodes the rows in COPY's binary format. Returns `None` if a value cannot be encoded, for
/// example because it is longer than 2 GiB.
pub fn rows(a: &Attempts<'_>, is_plain: bool) -> Option<Bytes> {
    let mut out = BytesMut::with_capacity(32 + a.event_id.len() * 120);
    out.put_slice(SIGNATURE);
    out.put_slice(&[0; 8]);
    for i in 0..a.event_id.len() {
        out.put_i16(if is_plain { 10 } else { 14 });
        put(&mut out, &Type::INT8, &a.event_id[i])?;
        put(&mut out, &Type::INT8, &a.event_xid[i])?;
        put(&mut out, &Type::INT8, &a.subscription_id[i])?;
        put(&mut out, &Type::TIMESTAMPTZ, &a.started_at[i])?;
        put(&mut out, &Type::FLOAT4, &a.duration_ms[i])?;
        put(&mut out, &Type::INT2, &a.slot[i])?;
        put(&mut out, &Type::INT2, &a.attempt[i])?;
        put(&mut out, &Type::INT2, &a.status[i])?;
        put(&mut out, &Type::TEXT, &a.outcome[i])?;
        put(&mut out, &Type::FLOAT4, &a.first_byte_ms[i])?;
        if !is_plain {
            put(&mut out, &Type::FLOAT4, &a.dns_ms[i])?;
            put(&mut out, &Type::FLOAT4, &a.connect_ms[i])?;
            put(&mut out, &Type::FLOAT4, &a.tls_ms[i])?;
            put(&mut out, &Type::TEXT, &a.batch_id[i])?;
        }
    }
    out.put_i16(-1);
    Some(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use database::value::Micros;

    #[test]
    fn a_row_is_written_as_copy_reads_it() {
        let attempts = Attempts {
            event_id: vec![1],
            event_xid: vec![2],
            subscription_id: vec![3],
            started_at: vec![Micros(946_684_800_000_004)],
            duration_ms: vec![1.5],
            slot: vec![5],
            attempt: vec![6],
            status: vec![None],
            outcome: vec!["ok"],
            first_byte_ms: vec![Some(0.5)],
            dns_ms: vec![None],
            connect_ms: vec![None],
            tls_ms: vec![None],
            batch_id: vec![Some("b")],
            ..Attempts::default()
        };
        let plain = rows(&attempts, true).unwrap();
        let mut wanted = BytesMut::from(&b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x0a"[..]);
        for number in [1_i64, 2, 3, 4] {
            wanted.put_i32(8);
            wanted.put_i64(number);
        }
        wanted.put_slice(&[0, 0, 0, 4, 0x3f, 0xc0, 0, 0, 0, 0, 0, 2, 0, 5, 0, 0, 0, 2, 0, 6]);
        wanted.put_slice(&[0xff; 4]);
        wanted.put_slice(b"\0\0\0\x02ok\0\0\0\x04\x3f\0\0\0\xff\xff");
        assert_eq!(plain, wanted);
        let all = rows(&attempts, false).unwrap();
        assert_eq!(all.len(), plain.len() + 3 * 4 + 5);
        assert!(all.ends_with(b"\xff\xff\xff\xff\0\0\0\x01b\xff\xff"));
        assert_eq!(statement(3, false).matches(", ").count(), 13);
    }
}
