//! Options that must fit together. Each is valid by itself. The CHECK constraints of the table
//! contain the same rules. Pure, except for [`Fit::present`].

use crate::error::Error;
use pgrx::prelude::*;

/// The values of these options that a subscription has, or will have.
#[derive(Debug, Clone, Default)]
pub struct Fit {
    pub format: Option<String>,
    pub ordering: Option<String>,
    pub batch_size: Option<i32>,
    pub has_batch_window: Option<bool>,
    pub compact: Option<bool>,
}

impl Fit {
    /// Returns the options of a subscription, whose row is already locked.
    ///
    /// # Errors
    /// [`Error::NoSuchSubscription`].
    pub fn present(id: i64) -> Result<Self, Error> {
        Spi::connect(|client| {
            let found = client.select(
                "select format, ordering, batch_size, batch_window <> interval '0', compact
                 from webhook.subscription where id = $1",
                Some(1),
                &[id.into()],
            )?;
            if found.is_empty() {
                return Err(Error::NoSuchSubscription(id));
            }
            let row = found.first();
            Ok(Self {
                format: row.get(1)?,
                ordering: row.get(2)?,
                batch_size: row.get(3)?,
                has_batch_window: row.get(4)?,
                compact: row.get(5)?,
            })
        })
    }

    /// Returns the options after a change to the given ones.
    pub fn changed_to(self, given: &Self) -> Self {
        Self {
            format: given.format.clone().or(self.format),
            ordering: given.ordering.clone().or(self.ordering),
            batch_size: given.batch_size.or(self.batch_size),
            has_batch_window: given.has_batch_window.or(self.has_batch_window),
            compact: given.compact.or(self.compact),
        }
    }

    /// # Errors
    /// Names the options that contradict each other.
    pub fn check(&self) -> Result<(), Error> {
        let bad = |option, reason: String, hint| Err(Error::BadOption { option, reason, hint });
        let format = self.format.as_deref().unwrap_or("standard");
        let batches = self.batch_size.is_some_and(|size| size > 1);
        if batches && !matches!(format, "standard" | "cloudevents-structured") {
            return bad(
                "batch_size, format",
                format!("format {format} allows only one event in a request"),
                "Use a batch_size of 1, or format standard or cloudevents-structured.",
            );
        }
        if self.has_batch_window == Some(true) && !batches {
            return bad(
                "batch_window",
                "requires a batch_size above 1".to_owned(),
                "Set batch_size above 1, or batch_window to '0'.",
            );
        }
        if self.compact == Some(true) && self.ordering.as_deref() == Some("strict") {
            return bad(
                "compact, ordering",
                "strict delivers every event, but compact omits some".to_owned(),
                "Use ordering => 'key' together with compact.",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Fit {
        Fit {
            format: Some("standard".to_owned()),
            ordering: Some("none".to_owned()),
            batch_size: Some(1),
            has_batch_window: Some(false),
            compact: Some(false),
        }
    }

    fn option_of(fit: &Fit) -> &'static str {
        match fit.check() {
            Ok(()) => "fits",
            Err(Error::BadOption { option, .. }) => option,
            Err(_) => "another error",
        }
    }

    #[test]
    fn what_fits_and_what_does_not() {
        let change = |change: fn(&mut Fit)| {
            let mut fit = sample();
            change(&mut fit);
            option_of(&fit)
        };
        assert_eq!(option_of(&sample()), "fits");
        assert_eq!(change(|fit| fit.batch_size = Some(2)), "fits");
        assert_eq!(change(|fit| fit.has_batch_window = Some(true)), "batch_window");
        assert_eq!(change(|fit| fit.compact = Some(true)), "fits");
        for format in ["raw", "form", "cloudevents-binary", "supabase", "hasura"] {
            let fit = Fit { format: Some(format.to_owned()), ..sample() };
            assert_eq!(option_of(&fit), "fits");
            assert_eq!(option_of(&Fit { batch_size: Some(2), ..fit }), "batch_size, format");
        }
        let strict = Fit { ordering: Some("strict".to_owned()), compact: Some(true), ..sample() };
        assert_eq!(option_of(&strict), "compact, ordering");
    }

    #[test]
    fn a_change_is_judged_with_what_stays() {
        let batching = Fit { batch_size: Some(10), has_batch_window: Some(true), ..sample() };
        let to_raw = Fit { format: Some("raw".to_owned()), ..Fit::default() };
        assert_eq!(option_of(&batching.clone().changed_to(&to_raw)), "batch_size, format");
        let to_one = Fit { batch_size: Some(1), ..Fit::default() };
        assert_eq!(option_of(&batching.clone().changed_to(&to_one)), "batch_window");
        let to_none = Fit { has_batch_window: Some(false), ..to_one };
        assert_eq!(option_of(&batching.changed_to(&to_none)), "fits");
    }
}
