//! Settings of the extension, one documented static each.
//!
//! The texts are read through a borrowed pointer, because capture reads them for every row and must
//! not copy them first.

use std::ffi::{CStr, CString};

use crate::encoding;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum, pg_sys};

/// The treatment of an event whose payload is over the cap.
#[derive(Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum OverCap {
    /// Cuts the payload to the key columns and marks the event `truncated`.
    #[name = c"thin"]
    Thin,
    /// Fails the statement.
    #[name = c"strict"]
    Strict,
}

/// `webhook.actor`: the author of the change, as the application knows them. Empty: no author.
static ACTOR: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
/// `webhook.origin`: the system that makes the change. A subscription that excludes it does not get
/// its own echo.
static ORIGIN: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
/// `webhook.traceparent`: W3C Trace Context of the request that makes the change.
static TRACEPARENT: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
/// `webhook.mute`: if on, changes are not captured. For superusers, and for roles granted SET on
/// it.
static MUTE: GucSetting<bool> = GucSetting::<bool>::new(false);
/// `webhook.tenant`: the one owner whose subscriptions can be seen and changed. Empty: the role
/// decides. A superuser's setting, because it both narrows and widens the rights of a role.
/// `webhook.act_for()` sets it on behalf of the daemon.
static TENANT: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
/// `webhook.tenant_role`: the OID of the role that `webhook.tenant` names. Empty: it is not a role.
static TENANT_ROLE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
/// `webhook.payload_bytes_max`: cap on an event's payload and previous together, in bytes.
static PAYLOAD_BYTES_MAX: GucSetting<i32> = GucSetting::<i32>::new(256 * 1024);
/// `webhook.payload_over_cap`: `thin` or `strict`.
static PAYLOAD_OVER_CAP: GucSetting<OverCap> = GucSetting::<OverCap>::new(OverCap::Thin);

/// Returns the text of a setting, or `None` if it is unset, empty, or not text in the database's
/// encoding. Postgres does not check the encoding of values from the start of the session, from a
/// file, or from another database (ALTER ROLE … SET). The text is valid until the next SET, so only
/// for the current call.
fn text(setting: &'static GucSetting<Option<CString>>) -> Option<&'static [u8]> {
    // SAFETY: Postgres keeps the pointer null or at a NUL-terminated text. The callers copy it at
    // once, before anything that could run a SET.
    let bytes = unsafe {
        let value = *setting.as_ptr();
        if value.is_null() {
            return None;
        }
        CStr::from_ptr(value).to_bytes()
    };
    (!bytes.is_empty() && encoding::is_valid(bytes)).then_some(bytes)
}

pub fn actor() -> Option<&'static [u8]> {
    text(&ACTOR)
}

pub fn origin() -> Option<&'static [u8]> {
    text(&ORIGIN)
}

pub fn traceparent() -> Option<&'static [u8]> {
    text(&TRACEPARENT)
}

/// Returns a copy, which a later SET cannot free.
pub fn tenant() -> Option<String> {
    text(&TENANT).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// Returns `InvalidOid`, which is no role, if the setting is not an OID.
pub fn tenant_role() -> Option<pg_sys::Oid> {
    let digits = String::from_utf8_lossy(text(&TENANT_ROLE)?).into_owned();
    Some(digits.parse::<u32>().map_or(pg_sys::Oid::INVALID, pg_sys::Oid::from))
}

pub fn muted() -> bool {
    // SAFETY: a plain cell of this process, which has one thread; `get` would check that for every
    // row.
    unsafe { *MUTE.as_ptr() }
}

/// Returns the cap in bytes.
pub fn payload_bytes_max() -> usize {
    // SAFETY: as for `muted`.
    usize::try_from(unsafe { *PAYLOAD_BYTES_MAX.as_ptr() }).unwrap_or(0)
}

pub fn payload_over_cap() -> OverCap {
    PAYLOAD_OVER_CAP.get()
}

/// Registers the settings. Called once per process, from `_PG_init`.
pub fn define() {
    let text = |name, short, long, setting| {
        GucRegistry::define_string_guc(name, short, long, setting, GucContext::Userset, GucFlags::default());
    };
    text(
        c"webhook.actor",
        c"Sets the actor of this session's changes, as receivers see it.",
        c"Stored with every event and sent as \"actor\". Empty means none.",
        &ACTOR,
    );
    text(
        c"webhook.origin",
        c"Sets the system that makes this session's changes.",
        c"Stored with every event. A subscription with this name in exclude_origin does not receive it. Empty means none.",
        &ORIGIN,
    );
    text(
        c"webhook.traceparent",
        c"Sets the W3C Trace Context of the request that makes this session's changes.",
        c"Stored with every event and sent to receivers. Empty means none.",
        &TRACEPARENT,
    );
    GucRegistry::define_string_guc(
        c"webhook.tenant",
        c"Limits the visible and changeable subscriptions to one owner, regardless of the role's privileges.",
        c"webhook.act_for() sets it for one transaction. Empty means no limit beyond the role's privileges.",
        &TENANT,
        GucContext::Suset,
        GucFlags::NO_SHOW_ALL,
    );
    GucRegistry::define_string_guc(
        c"webhook.tenant_role",
        c"Names the role that webhook.tenant is, by its OID.",
        c"webhook.act_for() sets it for one transaction. Empty means that webhook.tenant is not a role.",
        &TENANT_ROLE,
        GucContext::Suset,
        GucFlags::NO_SHOW_ALL,
    );
    GucRegistry::define_bool_guc(
        c"webhook.mute",
        c"Turns off capture of this session's changes.",
        c"For bulk repairs that must not emit events. webhook_emit() is not affected.",
        &MUTE,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"webhook.payload_bytes_max",
        c"Sets the maximum size of an event's payload, including former values.",
        c"webhook.payload_over_cap sets what happens to a larger payload.",
        &PAYLOAD_BYTES_MAX,
        1024,
        64 * 1024 * 1024,
        GucContext::Suset,
        GucFlags::UNIT_BYTE,
    );
    GucRegistry::define_enum_guc(
        c"webhook.payload_over_cap",
        c"Sets what happens to an event whose payload exceeds webhook.payload_bytes_max.",
        c"thin cuts the payload to the key columns and marks it as truncated; strict makes the statement fail.",
        &PAYLOAD_OVER_CAP,
        GucContext::Suset,
        GucFlags::default(),
    );
    // From here on, a misspelt webhook.* setting is an error, and not a setting without effect.
    // SAFETY: the name is NUL-terminated and static.
    #[cfg(not(feature = "pg14"))]
    unsafe {
        pg_sys::MarkGUCPrefixReserved(c"webhook".as_ptr());
    }
    // SAFETY: as above. Postgres 14 only warns.
    #[cfg(feature = "pg14")]
    unsafe {
        pg_sys::EmitWarningsOnPlaceholders(c"webhook".as_ptr());
    }
}
