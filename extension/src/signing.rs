//! `webhook_sign` and `webhook_verify`: Standard Webhooks v1 in SQL. They read only their
//! arguments, and write nothing.

use crate::error::{Error, answer, given};
use crate::memory;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use signature::Secret;

/// Signs a body. Strict in SQL: a null gives null.
#[pg_extern(sql = false)]
fn webhook_sign(secret: &str, id: &str, ts: i64, body: &str) -> String {
    answer(|| {
        memory::room_for_input(secret.len() + id.len());
        let secret = Secret::parse(secret).map_err(|why| Error::BadSecret(why.into()))?;
        Ok(signature::sign(&secret, id, ts, body.as_bytes()))
    })
}

/// Verifies a signature. Not strict: a missing part makes the signature invalid, and not unknown,
/// which `if not …` would let pass.
#[pg_extern(sql = false)]
fn webhook_verify(
    secret: Option<&str>,
    id: Option<&str>,
    ts: Option<i64>,
    body: Option<&str>,
    header: Option<&str>,
    now: Option<TimestampWithTimeZone>,
) -> bool {
    answer(|| {
        let lengths = [secret, id, header].map(|text| text.map_or(0, str::len));
        memory::room_for_input(lengths.iter().sum());
        let secret = Secret::parse(given(secret, "secret")?).map_err(|why| Error::BadSecret(why.into()))?;
        let (Some(id), Some(ts), Some(body), Some(header), Some(now)) = (id, ts, body, header, now) else {
            return Ok(false);
        };
        Ok(signature::verify(&secret, id, ts, body.as_bytes(), header, unix_seconds(now)).is_ok())
    })
}

/// Returns whole seconds since 1970. The infinities become values beyond every finite timestamp.
fn unix_seconds(at: TimestampWithTimeZone) -> i64 {
    /// 2000-01-01, the epoch of Postgres, in seconds since 1970.
    const POSTGRES_EPOCH: i64 = 946_684_800;
    pg_sys::TimestampTz::from(at).div_euclid(1_000_000).saturating_add(POSTGRES_EPOCH)
}
