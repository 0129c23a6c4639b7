//! Finds the columns that a watch means, after ALTER TABLE or a restore has changed the table.
//! Pure.
//!
//! A watch holds each column's former name and number. A rename keeps the number. A dump and
//! restore keeps the name and assigns new numbers. A number therefore counts only in the table that
//! it was written for; elsewhere another column may have it. A restored table is recognized by its
//! OID (`webhook.watch.numbered_for`). If it has the same OID by chance, it is recognized by its
//! columns: a restore closes the gaps of dropped columns, and a table itself never does.

/// A column of the table as it is now; dropped ones are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PresentColumn<'a> {
    pub name: &'a [u8],
    pub number: i16,
}

/// States whether a watch's numbers apply to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    Hold,
    /// The OID is right, but the columns have changed as a restore changes them, or names were
    /// exchanged.
    Doubtful,
    /// The numbers were written for another table.
    Foreign,
}

impl Numbers {
    /// Judges a table with the OID that the numbers were written for. `then` holds its former
    /// column names in number order (`None` for a dropped column). `count` is its present number of
    /// columns, including dropped ones.
    pub fn of_columns<N: AsRef<[u8]>>(
        then: &[Option<N>],
        present: &[PresentColumn<'_>],
        count: usize,
    ) -> Self {
        let contradicts = |(number, name): (i16, &Option<N>)| match name {
            None => present.iter().any(|column| column.number == number),
            Some(name) => present.iter().any(|column| column.name == name.as_ref() && column.number < number),
        };
        if count < then.len() || (1..).zip(then).any(contradicts) { Self::Doubtful } else { Self::Hold }
    }
}

/// The result of finding a watch's column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResolvedColumn {
    /// The column that is meant. `None` if it has been dropped, or has another name and cannot be
    /// found.
    pub meant: Option<i16>,
    /// Another column that could be meant. An exclusion excludes both, so a wrong guess leaks
    /// nothing.
    pub other: Option<i16>,
    /// True if any column may be meant.
    pub lost: bool,
}

/// Finds the column that had this name and number.
pub fn find(name: &[u8], number: i16, numbers: Numbers, present: &[PresentColumn<'_>]) -> ResolvedColumn {
    let by_number = present.iter().find(|column| column.number == number).map(|column| column.number);
    let by_name = present.iter().find(|column| column.name == name).map(|column| column.number);
    let (meant, other) = match numbers {
        Numbers::Hold => (by_number.or(by_name), by_name),
        Numbers::Doubtful => (by_name, by_number),
        Numbers::Foreign => (by_name, None),
    };
    ResolvedColumn {
        meant,
        other: other.filter(|other| Some(*other) != meant),
        lost: numbers != Numbers::Hold && meant.is_none(),
    }
}

/// Finds the column that had this name and number, if it is certain that it is this column. A
/// column that was dropped and created again is another one. Where the numbers do not apply, only
/// the name is left.
pub fn find_certain(
    name: &[u8],
    number: i16,
    numbers: Numbers,
    present: &[PresentColumn<'_>],
) -> Option<i16> {
    let by_number = present.iter().find(|column| column.number == number).map(|column| column.number);
    let by_name = present.iter().find(|column| column.name == name).map(|column| column.number);
    match numbers {
        Numbers::Foreign => by_name,
        Numbers::Hold if by_name.is_none() => by_number,
        Numbers::Hold | Numbers::Doubtful => by_number.filter(|_| by_number == by_name),
    }
}

#[cfg(test)]
mod tests {
    use super::Numbers::{Doubtful, Foreign, Hold};
    use super::{Numbers, PresentColumn, ResolvedColumn, find, find_certain};

    fn present<'a>(columns: &[(&'a str, i16)]) -> Vec<PresentColumn<'a>> {
        columns
            .iter()
            .map(|(name, number)| PresentColumn { name: name.as_bytes(), number: *number })
            .collect()
    }

    fn meant(number: i16) -> ResolvedColumn {
        ResolvedColumn { meant: Some(number), ..ResolvedColumn::default() }
    }

    const LOST: ResolvedColumn = ResolvedColumn { meant: None, other: None, lost: true };

    #[test]
    fn unchanged_renamed_dropped() {
        assert_eq!(find(b"b", 2, Hold, &present(&[("a", 1), ("b", 2)])), meant(2));
        assert_eq!(find(b"b", 2, Hold, &present(&[("a", 1), ("x", 2)])), meant(2));
        assert_eq!(find(b"b", 2, Hold, &present(&[("a", 1), ("c", 3)])), ResolvedColumn::default());
        assert_eq!(find(b"b", 2, Hold, &present(&[("a", 1), ("b", 3)])), meant(3));
    }

    #[test]
    fn a_restored_table_is_followed_by_name_alone() {
        // Columns a 1, (dropped) 2, b 3, c 4 become a 1, b 2, c 3.
        let restored = present(&[("a", 1), ("b", 2), ("c", 3)]);
        assert_eq!(find(b"b", 3, Foreign, &restored), meant(2));
        assert_eq!(find(b"c", 4, Foreign, &restored), meant(3));
        assert_eq!(find(b"gone", 2, Foreign, &restored), LOST);
        assert_eq!(find(b"gone", 2, Doubtful, &restored), ResolvedColumn { other: Some(2), ..LOST });
        assert_eq!(find(b"b", 3, Doubtful, &restored), ResolvedColumn { other: Some(3), ..meant(2) });
    }

    #[test]
    fn a_name_given_to_a_new_column_is_not_followed() {
        let renamed = present(&[("a", 1), ("b_old", 2), ("b", 3)]);
        assert_eq!(find(b"b", 2, Hold, &renamed), ResolvedColumn { other: Some(3), ..meant(2) });
    }

    #[test]
    fn only_the_same_column_is_certain() {
        let certain = |name: &str, number, numbers, columns: &[(&str, i16)]| {
            find_certain(name.as_bytes(), number, numbers, &present(columns))
        };
        let renamed = [("a", 1), ("b_old", 2)];
        assert_eq!(certain("b", 2, Hold, &renamed), Some(2));
        assert_eq!(certain("b", 2, Hold, &[("a", 1), ("b", 2)]), Some(2));
        assert_eq!(certain("b", 2, Doubtful, &[("a", 1), ("b", 2)]), Some(2));
        // A new column has the former name.
        assert_eq!(certain("b", 2, Hold, &[("a", 1), ("b", 3)]), None);
        assert_eq!(certain("b", 2, Doubtful, &[("b", 1)]), None);
        assert_eq!(certain("b", 2, Hold, &[("a", 1), ("b_old", 2), ("b", 3)]), None);
        // The names of two columns were exchanged.
        assert_eq!(certain("b", 2, Doubtful, &[("b", 1), ("a", 2)]), None);
        assert_eq!(certain("b", 2, Doubtful, &renamed), None);
        assert_eq!(certain("b", 2, Foreign, &renamed), None);
        assert_eq!(certain("b", 3, Foreign, &[("a", 1), ("b", 2)]), Some(2));
        assert_eq!(certain("b", 2, Hold, &[("a", 1)]), None);
    }

    #[test]
    fn a_restore_shows_in_the_columns() {
        let then = [Some("a"), Some("b"), None, Some("d")];
        let judge = |columns: &[(&str, i16)], count| Numbers::of_columns(&then, &present(columns), count);
        assert_eq!(judge(&[("a", 1), ("b", 2), ("d", 4)], 4), Hold);
        // A column was renamed, dropped, or added, or a name was used again.
        assert_eq!(judge(&[("x", 1), ("d", 4), ("e", 5)], 5), Hold);
        assert_eq!(judge(&[("x", 1), ("b", 2), ("d", 4), ("a", 5)], 5), Hold);
        // Gaps were closed: too few columns, a name at a lower number, a column in place of a
        // dropped one.
        assert_eq!(judge(&[("a", 1), ("b", 2), ("x", 3)], 3), Doubtful);
        assert_eq!(judge(&[("a", 1), ("d", 2), ("e", 4), ("f", 5)], 5), Doubtful);
        assert_eq!(judge(&[("a", 1), ("b", 2), ("x", 3), ("e", 4)], 4), Doubtful);
        // Two names were exchanged.
        assert_eq!(judge(&[("b", 1), ("a", 2), ("d", 4)], 4), Doubtful);
    }
}
