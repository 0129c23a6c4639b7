//! The owner of a subscription. Reads `webhook.subscription`, as the extension's owner, on behalf
//! of a caller.
//!
//! Row-level security decides what a role may see (`sql/subscription.sql`). This module decides
//! what a role may change: members of the owner may, and admins. A subscription of another owner
//! does not exist for the caller.

use crate::catalogue;
use crate::error::Error;
use crate::guc;
use crate::owner_name::{self, EVERY};
use crate::rights::Caller;
use pgrx::prelude::*;

/// Locks a subscription's row until the end of the transaction, if the caller may change it.
///
/// # Errors
/// [`Error::NoSuchSubscription`].
pub fn lock(caller: Caller, id: i64) -> Result<(), Error> {
    // The previous schema has only the owner's name.
    let statement = match catalogue::is_present()? {
        true => include_str!("sql/lock_subscription.sql"),
        false => {
            "select webhook.may_manage($2, owner) from webhook.subscription where id = $1 for no key update"
        }
    };
    Spi::connect_mut(|client| {
        let found = client.update(statement, Some(1), &[id.into(), caller.id.into()])?;
        let may = !found.is_empty() && found.first().get_one::<bool>()? == Some(true);
        if may { Ok(()) } else { Err(Error::NoSuchSubscription(id)) }
    })
}

#[pg_extern(sql = false)]
fn tenant() -> Option<String> {
    guc::tenant()
}

#[pg_extern(sql = false)]
fn tenant_role() -> Option<pg_sys::Oid> {
    guc::tenant_role()
}

/// Returns the owner of a new subscription: the given name, or the caller, or the tenant that the
/// caller is limited to.
///
/// # Errors
/// [`Error::NotTheirs`] if the name is not a role of which the caller is a member, and the caller
/// is not an admin.
pub fn choose(caller: Caller, name: Option<String>) -> Result<String, Error> {
    const HINT: &str =
        "Pass the name of a role or of a tenant, or omit owner to own the subscription yourself.";
    let bad = |reason: &str| Error::BadOption { option: "owner", reason: reason.to_owned(), hint: HINT };
    let Some(name) = name.or_else(guc::tenant) else {
        let own = Spi::get_one_with_args("select pg_get_userbyid($1)::text", &[caller.id.into()])?;
        return own.ok_or(Error::Missing("role"));
    };
    if name == EVERY {
        return Err(bad("must not be \"*\", which stands for all owners"));
    }
    if let Some(reason) = owner_name::flaw(&name) {
        return Err(bad(reason));
    }
    let may = Spi::get_one_with_args::<bool>(
        "select webhook.may_manage($1, $2, webhook.role_named($2))",
        &[caller.id.into(), name.as_str().into()],
    )?;
    if may == Some(true) { Ok(name) } else { Err(Error::NotTheirs(name)) }
}
