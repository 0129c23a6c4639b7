//! Whose a subscription is. Reads `webhook.subscription`; called as the extension's owner, on behalf of a caller.
//!
//! What a role may see is row-level security's business (`sql/subscription.sql`). What it may change is asked here: the
//! owner's members may, and admins. Of another's subscription nothing is told, not even that it exists.

use crate::error::Error;
use crate::guc;
use crate::rights::Caller;
use pgrx::prelude::*;

/// Longest name of an owner, in characters.
const CHARS_MAX: usize = 200;

/// Locks a subscription's row until the end of the transaction, if the caller may change it.
///
/// # Errors
/// [`Error::NoSuchSubscription`].
pub fn lock(caller: Caller, id: i64) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        let found = client.update(
            "select webhook.may_manage($2, owner) from webhook.subscription where id = $1 for no key update",
            Some(1),
            &[id.into(), caller.id.into()],
        )?;
        let may = !found.is_empty() && found.first().get_one::<bool>()? == Some(true);
        if may { Ok(()) } else { Err(Error::NoSuchSubscription(id)) }
    })
}

#[pg_extern(sql = false)]
fn tenant() -> Option<String> {
    guc::tenant()
}

/// The owner that the caller gives a subscription to: himself (or the tenant that he is confined to), unless he names
/// another.
///
/// # Errors
/// [`Error::NotTheirs`] if that is a role he is no member of, or no role at all, and he is no admin.
pub fn choose(caller: Caller, name: Option<String>) -> Result<String, Error> {
    const HINT: &str = "Pass the name of a role, or leave it out: then it is yours.";
    let bad = |reason: &str| Error::BadOption { option: "owner", reason: reason.to_owned(), hint: HINT };
    let Some(name) = name.or_else(guc::tenant) else {
        let own = Spi::get_one_with_args("select pg_get_userbyid($1)::text", &[caller.id.into()])?;
        return own.ok_or(Error::Missing("role"));
    };
    if name.trim().is_empty() {
        return Err(bad("it is blank"));
    }
    if name.chars().count() > CHARS_MAX || name.chars().any(char::is_control) {
        return Err(bad("it is longer than 200 characters, or holds a control character"));
    }
    let may = Spi::get_one_with_args::<bool>(
        "select webhook.may_manage($1, $2)",
        &[caller.id.into(), name.as_str().into()],
    )?;
    if may == Some(true) { Ok(name) } else { Err(Error::NotTheirs(name)) }
}
