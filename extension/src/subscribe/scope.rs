//! The options that decide what a subscription may have: its scope, and the options that an admin
//! has locked. Reads `webhook.subscription` on behalf of a caller.

use super::options::Options;
use crate::error::Error;
use crate::rights::Caller;
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

/// What the caller may choose for an owner.
struct Rights {
    /// Can read every event, and so choose scope `all`.
    sees_all: bool,
    is_admin: bool,
    /// The owner is the caller itself.
    is_own: bool,
    max_in_flight: i32,
}

impl Rights {
    fn of(caller: Caller, owner: &str) -> Result<Self, Error> {
        Spi::connect(|client| {
            let arguments: [DatumWithOid<'_>; 2] = [caller.id.into(), owner.into()];
            let row = client.select(include_str!("sql/rights_of_caller.sql"), Some(1), &arguments)?.first();
            let is = |at| row.get::<bool>(at).map(|is| is == Some(true));
            Ok(Self {
                sees_all: is(1)?,
                is_admin: is(2)?,
                is_own: is(3)?,
                max_in_flight: row.get(4)?.ok_or(Error::Missing("limit"))?,
            })
        })
    }

    /// # Errors
    /// [`Error::OptionDenied`] if the caller cannot choose scope `all`.
    fn check_scope(&self, scope: &str) -> Result<(), Error> {
        if scope != "all" || self.sees_all {
            return Ok(());
        }
        Err(Error::OptionDenied {
            option: "scope".to_owned(),
            reason: "\"all\" can be chosen only by a role that can read every event",
            hint: "Omit scope to get the events of the owner, or ask an admin to choose it.",
        })
    }

    /// # Errors
    /// [`Error::OptionDenied`] if the caller cannot lock options.
    fn check_locking(&self) -> Result<(), Error> {
        if self.is_admin {
            return Ok(());
        }
        Err(Error::OptionDenied {
            option: "locked".to_owned(),
            reason: "only an admin can lock and unlock options",
            hint: "Omit locked, or ask an admin to make the call.",
        })
    }
}

/// Completes the options of a new subscription, whose owner is chosen: a scope, and the number of
/// concurrent requests that the owner may have.
///
/// # Errors
/// The caller cannot choose the scope, or lock options.
pub fn begin(caller: Caller, options: &mut Options) -> Result<(), Error> {
    let owner = options.owner.clone().ok_or(Error::Missing("owner"))?;
    let rights = Rights::of(caller, &owner)?;
    if options.locked.as_ref().is_some_and(|locked| !locked.is_empty()) {
        rights.check_locking()?;
    }
    match &options.scope {
        Some(scope) => rights.check_scope(scope)?,
        None => {
            let scope = if rights.sees_all && rights.is_own { "all" } else { "own" };
            options.set_column("scope", scope.to_owned());
        }
    }
    if !options.sets("max_in_flight") {
        options.set_column("max_in_flight", rights.max_in_flight);
    }
    Ok(())
}

/// The values of a subscription that decide what its owner may change.
#[derive(Debug, PartialEq, Eq)]
pub struct Present {
    owner: String,
    scope: String,
    locked: Vec<String>,
    url: String,
    events: String,
    filter: Option<String>,
}

impl Present {
    /// Reads the values of a subscription, whose row is already locked.
    ///
    /// # Errors
    /// [`Error::NoSuchSubscription`].
    pub fn read(id: i64) -> Result<Self, Error> {
        Spi::connect(|client| {
            let found = client.select(
                "select owner, scope, locked, url, events::text, filter::text from webhook.subscription where id = $1",
                Some(1),
                &[id.into()],
            )?;
            if found.is_empty() {
                return Err(Error::NoSuchSubscription(id));
            }
            let row = found.first();
            Ok(Self {
                owner: row.get(1)?.unwrap_or_default(),
                scope: row.get(2)?.unwrap_or_default(),
                locked: row.get(3)?.unwrap_or_default(),
                url: row.get(4)?.unwrap_or_default(),
                events: row.get(5)?.unwrap_or_default(),
                filter: row.get(6)?,
            })
        })
    }

    /// Decides the scope after a change of options. Another owner gets the events of the former one
    /// only if the caller chooses so.
    ///
    /// # Errors
    /// The caller cannot choose the scope, or lock options.
    pub fn change(&self, caller: Caller, options: &mut Options) -> Result<(), Error> {
        let owner = options.owner.as_ref().unwrap_or(&self.owner);
        let is_transferred = *owner != self.owner;
        let rights = Rights::of(caller, owner)?;
        if options.locked.as_ref().is_some_and(|locked| *locked != self.locked) {
            rights.check_locking()?;
        }
        match &options.scope {
            Some(scope) if *scope == self.scope && !is_transferred => {}
            Some(scope) => rights.check_scope(scope)?,
            None if is_transferred => {
                let keeps = rights.sees_all && (rights.is_own || !rights.is_admin);
                if !keeps {
                    options.set_column("scope", "own".to_owned());
                }
            }
            None => {}
        }
        Ok(())
    }

    /// Rejects a change of a locked option by a caller who is not an admin. Call this after the
    /// change.
    ///
    /// # Errors
    /// [`Error::OptionDenied`] names the option.
    pub fn check_locked(&self, caller: Caller, id: i64) -> Result<(), Error> {
        let now = if self.locked.is_empty() { return Ok(()) } else { Self::read(id)? };
        let changed = self.locked.iter().find(|&option| match option.as_str() {
            "url" => now.url != self.url,
            "events" => now.events != self.events,
            "filter" => now.filter != self.filter,
            _ => false,
        });
        match changed {
            Some(option) if !Rights::of(caller, &self.owner)?.is_admin => Err(Error::OptionDenied {
                option: option.clone(),
                reason: "an admin has locked it",
                hint: "Omit the option, or ask an admin to change it.",
            }),
            _ => Ok(()),
        }
    }
}
