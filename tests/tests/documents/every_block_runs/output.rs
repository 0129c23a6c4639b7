//! Compares what a block printed with what the page shows.

use regex::Regex;
use std::sync::LazyLock;

/// Texts that differ from run to run, and what takes their place on both sides.
static MASKS: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    let masks = [
        (r"\b(evt|bat)_[0-9a-f]+…?", "${1}_"),
        (r"\b(whsec|whpk|whsk)_[A-Za-z0-9+/=]*…?", "${1}_"),
        (r"\bwebhookd_(public|private|token)_[A-Za-z0-9+/=._-]*…?", "webhookd_${1}_"),
        (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?(\.\d+)?(Z|[+-]\d\d(:?\d\d)?)?", "TIME"),
        (r"Postgres \d+(\.\d+)?( \([^)]*\))?", "Postgres N"),
        (r"instance \S+", "instance I"),
        (r"-\[ RECORD (\d+) \][-+]*", "RECORD $1"),
    ];
    masks.map(|(mask, with)| (Regex::new(mask).expect("a pattern"), with)).to_vec()
});

static NUMBERS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"-?\d+(\.\d+)?").expect("a pattern"));

/// Returns the lines that matter: no blank ones, no rules of tables, one space for several, and the
/// masks.
pub fn lines(text: &str, numbers_vary: bool) -> Vec<String> {
    let is_rule = |line: &str| line.len() > 1 && line.chars().all(|c| "-+─┼ ".contains(c));
    let kept = text.lines().filter(|line| !line.trim().is_empty() && !is_rule(line.trim()));
    kept.map(|line| {
        let line = MASKS
            .iter()
            .fold(line.to_owned(), |line, (mask, with)| mask.replace_all(&line, *with).into_owned());
        let line = if numbers_vary { NUMBERS.replace_all(&line, "N").into_owned() } else { line };
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    })
    .collect()
}

/// Returns the difference, or `None`. A printed line `…` stands for any lines.
pub fn difference(printed: &str, said: &str, numbers_vary: bool) -> Option<String> {
    let (printed, said) = (lines(printed, numbers_vary), lines(said, numbers_vary));
    if matches(&printed, &said) {
        return None;
    }
    Some(format!("the page shows\n  {}\nand it printed\n  {}", printed.join("\n  "), said.join("\n  ")))
}

fn matches(printed: &[String], said: &[String]) -> bool {
    match printed {
        [] => said.is_empty(),
        [dots, rest @ ..] if dots == "…" => (0..=said.len()).any(|skipped| matches(rest, &said[skipped..])),
        [first, rest @ ..] => said.first() == Some(first) && matches(rest, &said[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_varies_is_masked_and_nothing_else() {
        let printed = " id |   secret\n----+--------\n  1 | whsec_bW9y…\n";
        assert_eq!(difference(printed, "id | secret\n--+--\n 1 | whsec_AAAA+/=\n", false), None);
        assert!(difference(printed, "id | secret\n 2 | whsec_AAAA\n", false).is_some(), "another id");
        assert!(difference(printed, "id | secret\n 1 | AAAA\n", false).is_some(), "no secret");
        assert_eq!(difference(printed, "id | secret\n 2 | whsec_AAAA\n", true), None);
        assert_eq!(difference("a\n…\nz\n", "a\nb\nc\nz\n", false), None);
        assert!(difference("a\n…\nz\n", "a\nb\n", false).is_some());
        assert!(difference("at 2026-11-22 03:38", "at 2026-11-23 04:00:01+00", false).is_none());
    }
}
