//! Prepares foreign text for a terminal: removes control characters, cuts, and aligns columns.
//! Pure.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Maximum width of a cell, in columns of the terminal.
const CELL_COLUMNS_MAX: usize = 60;

/// Removes characters that could control the terminal or disguise a text: control characters,
/// direction marks, invisible characters, and line breaks.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if is_harmful(c) { '\u{fffd}' } else { c }).collect()
}

fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Returns a table. Columns are as wide as their widest cell, two spaces apart. Cells are cleaned
/// and cut.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    columns(
        headings,
        rows.iter().map(|row| row.iter().map(|cell| cut(&clean(cell), CELL_COLUMNS_MAX)).collect()).collect(),
    )
}

/// The same with whole cells, for texts that must be readable to the end.
pub fn whole_table(headings: &[&str], rows: &[Vec<String>]) -> String {
    columns(headings, rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect()).collect())
}

/// Returns the lines of a table, headings first. Each cell is cleaned, and cut to the width of its
/// column.
pub fn table_of(headings: &[(&str, usize)], rows: &[Vec<String>]) -> Vec<String> {
    let cells = |row: &Vec<String>| {
        row.iter().zip(headings).map(|(cell, (_, max))| cut(&clean(cell), *max)).collect()
    };
    let names: Vec<&str> = headings.iter().map(|(name, _)| *name).collect();
    columns(&names, rows.iter().map(cells).collect()).lines().map(str::to_owned).collect()
}

fn columns(headings: &[&str], rows: Vec<Vec<String>>) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width());
        cells.chain([headings[column].width()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    let headings = headings.iter().map(|heading| (*heading).to_owned()).collect();
    for row in std::iter::once(&headings).chain(&rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + 2 - cell.width()));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Cuts a text to a width, in columns of the terminal.
pub fn cut(text: &str, max: usize) -> String {
    if text.width() <= max {
        return text.to_owned();
    }
    let mut columns = 0;
    let fits = |c: &char| {
        columns += c.width().unwrap_or(0);
        columns < max
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn columns_are_aligned_by_what_the_terminal_shows() {
        let rows =
            [["1", "Zoë", "on"], ["20", "漢字", "paused: x"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            table(&["id", "name", "state"], &rows),
            "id  name  state\n1   Zoë   on\n20  漢字  paused: x\n"
        );
    }

    #[test]
    fn foreign_text_is_harmless() {
        let shown =
            clean("a\x1b[2J\u{9b}31m\r\n\t\0\u{7f}\u{202e}gnp\u{2066}\u{200f}\u{feff}\u{e0041}\u{2028}z");
        assert_eq!(shown.replace('\u{fffd}', "?"), "a?[2J?31m??????gnp?????z");
        let long = vec![vec!["x".repeat(500)]];
        assert_eq!(table(&["y"], &long).lines().last().unwrap().chars().count(), CELL_COLUMNS_MAX);
    }

    proptest! {
        #[test]
        fn a_table_has_a_line_for_each_row(cells in proptest::collection::vec(".{0,80}", 1..5)) {
            let rows: Vec<Vec<String>> = cells.iter().map(|cell| vec![cell.clone()]).collect();
            let text = table(&["a"], &rows);
            prop_assert_eq!(text.split('\n').count(), rows.len() + 2);
            prop_assert!(!text.chars().any(|c| c != '\n' && is_harmful(c)));
        }
    }
}
