//! Which column of a table a watch means, after whatever ALTER TABLE or a restore has done to it. Pure.
//!
//! A watch holds each column's name and number as they were. A rename keeps the number; a dump and restore keeps the
//! name and gives new numbers. When both still lead somewhere, and not to the same column, the direction tells which
//! has happened: a restore closes the gaps of dropped columns, so the name is found at a lower number; a column that
//! was renamed and had its name given to a new one finds the name at a higher number.

/// A column of the table as it is now; dropped ones are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Present<'a> {
    pub name: &'a [u8],
    pub number: i16,
}

/// What a watch's column is found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Found {
    /// The column that is meant; `None`: it has been dropped.
    pub meant: Option<i16>,
    /// Another that could be meant. What is excluded excludes both, so that nothing leaks by a wrong guess.
    pub other: Option<i16>,
}

/// Finds the column that was called `name` and had `number`.
pub fn find(name: &[u8], number: i16, present: &[Present<'_>]) -> Found {
    let by_number = present.iter().find(|column| column.number == number).map(|column| column.number);
    let by_name = present.iter().find(|column| column.name == name).map(|column| column.number);
    match (by_number, by_name) {
        (Some(old), Some(new)) if old == new => Found { meant: Some(old), other: None },
        (Some(old), Some(new)) if new < old => Found { meant: Some(new), other: Some(old) },
        (Some(old), Some(new)) => Found { meant: Some(old), other: Some(new) },
        (one, None) | (None, one) => Found { meant: one, other: None },
    }
}

#[cfg(test)]
mod tests {
    use super::{Found, Present, find};

    fn present<'a>(columns: &[(&'a str, i16)]) -> Vec<Present<'a>> {
        columns.iter().map(|(name, number)| Present { name: name.as_bytes(), number: *number }).collect()
    }

    fn meant(number: i16) -> Found {
        Found { meant: Some(number), other: None }
    }

    #[test]
    fn unchanged_renamed_renumbered_dropped() {
        assert_eq!(find(b"b", 2, &present(&[("a", 1), ("b", 2)])), meant(2));
        assert_eq!(find(b"b", 2, &present(&[("a", 1), ("x", 2)])), meant(2));
        assert_eq!(find(b"b", 3, &present(&[("a", 1), ("b", 2)])), meant(2));
        assert_eq!(find(b"b", 2, &present(&[("a", 1), ("c", 3)])), Found::default());
    }

    #[test]
    fn a_restore_that_closed_a_gap_is_followed_by_name() {
        // a 1, (dropped) 2, b 3, c 4 becomes a 1, b 2, c 3.
        let restored = present(&[("a", 1), ("b", 2), ("c", 3)]);
        assert_eq!(find(b"b", 3, &restored), Found { meant: Some(2), other: Some(3) });
        assert_eq!(find(b"c", 4, &restored), meant(3));
    }

    #[test]
    fn a_name_given_to_a_new_column_is_not_followed() {
        let renamed = present(&[("a", 1), ("b_old", 2), ("b", 3)]);
        assert_eq!(find(b"b", 2, &renamed), Found { meant: Some(2), other: Some(3) });
    }
}
