//! Reads the fenced blocks of a page, and says what the test does with each.
//!
//! A comment of HTML directly before a block is a note for the test:
//!
//! * `<!-- not run: REASON -->`: one of [`REASONS`]
//! * `<!-- numbers vary -->`: the output has the shape of the printed one, with other numbers
//! * `<!-- exit code 1 -->`: the last command of the block ends so
//! * `<!-- another database -->`: a new reader begins here, with an empty database

/// Why a block cannot run. Each is a fact about the block, and not about the test.
pub const REASONS: [&str; 4] =
    ["a drawing", "the form of a call", "builds or tests this project", "an excerpt of long output"];

/// A fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The line of its first fence, counted from 1.
    pub line: usize,
    pub heading: String,
    pub language: String,
    pub text: String,
    /// The notes before it, without the marks of a comment.
    pub notes: Vec<String>,
}

/// What the test does with a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Runs it, and compares its output with the printed one, if there is one.
    Run { block: Block, printed: Option<Block> },
    /// Checks its form, or uses it as a file.
    Use(Block),
    /// Leaves it out for one of [`REASONS`].
    Leave(Block, &'static str),
}

impl Block {
    pub fn has_note(&self, note: &str) -> bool {
        self.notes.iter().any(|known| known == note)
    }

    /// Returns the exit code that the page says, else 0.
    pub fn exit_code(&self) -> i32 {
        let code = self.notes.iter().find_map(|note| note.strip_prefix("exit code ")?.parse().ok());
        code.unwrap_or_default()
    }

    fn reason(&self) -> Option<Result<&'static str, String>> {
        let reason = self.notes.iter().find_map(|note| note.strip_prefix("not run: "))?;
        let known = REASONS.into_iter().find(|known| *known == reason);
        Some(known.ok_or_else(|| format!("line {}: `{reason}` is not one of {REASONS:?}", self.line)))
    }
}

/// Returns the note of a line that is a comment for this test.
fn note(line: &str) -> Option<&str> {
    let text = line.strip_prefix("<!-- ")?.strip_suffix(" -->")?;
    let is_ours = text.starts_with("not run: ")
        || text.starts_with("exit code ")
        || ["numbers vary", "another database"].contains(&text);
    is_ours.then_some(text)
}

/// Returns the blocks of a page.
///
/// # Panics
/// If a block does not end, or a note has no block.
pub fn blocks(page: &str) -> Vec<Block> {
    let (mut heading, mut notes) = (String::new(), Vec::new());
    let mut open: Option<Block> = None;
    let mut blocks = Vec::new();
    for (at, line) in page.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                open = Some(Block {
                    line: at + 1,
                    heading: heading.clone(),
                    language: language.to_owned(),
                    text: String::new(),
                    notes: std::mem::take(&mut notes),
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, None) => {
                if let Some(note) = note(line) {
                    notes.push(note.to_owned());
                } else if let Some(text) = line.strip_prefix('#') {
                    text.trim_start_matches('#').trim().clone_into(&mut heading);
                } else if !line.is_empty() {
                    assert!(notes.is_empty(), "line {}: no block follows the notes {notes:?}", at + 1);
                    assert!(!line.trim_start().starts_with("```"), "line {}: an indented block", at + 1);
                }
            }
        }
    }
    assert_eq!(open, None, "every block ends");
    blocks
}

/// Returns what to do with each block, in printed order.
///
/// # Errors
/// Returns the blocks with which the test can do nothing: they need a language or a reason.
pub fn steps(page: &str) -> Result<Vec<Step>, Vec<String>> {
    let (mut steps, mut wrong): (Vec<Step>, Vec<String>) = (Vec::new(), Vec::new());
    for block in blocks(page) {
        let line = block.line;
        match (block.reason(), block.language.as_str(), steps.last_mut()) {
            (Some(Ok(reason)), ..) => steps.push(Step::Leave(block, reason)),
            (Some(Err(why)), ..) => wrong.push(why),
            (None, "sql" | "sh", _) => steps.push(Step::Run { block, printed: None }),
            (None, "", Some(Step::Run { printed: printed @ None, .. })) => *printed = Some(block),
            (None, "http" | "ini" | "javascript" | "nginx" | "python" | "toml" | "yaml", _) => {
                steps.push(Step::Use(block));
            }
            (None, language, _) => wrong.push(format!(
                "line {line}: a block ({language:?}) that is neither run, checked, nor the output of \
                 the block before it; give it a language or `<!-- not run: REASON -->`"
            )),
        }
    }
    if wrong.is_empty() { Ok(steps) } else { Err(wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_without_a_use_is_an_error() {
        for page in ["```\nx\n```\n", "```rust\nx\n```\n", "```sql\nx\n```\n```\ny\n```\n```\nz\n```\n"] {
            assert_eq!(steps(page).expect_err("an error").len(), 1, "{page}");
        }
        let wrong = steps("<!-- not run: tedious -->\n```sh\nx\n```\n").expect_err("an error");
        assert!(wrong[0].contains("tedious"), "{wrong:?}");
    }

    #[test]
    fn output_belongs_to_the_block_before_it() {
        let page = "# A\n```sql\nx\n```\nIt prints:\n\n<!-- numbers vary -->\n```\ny 1\n```\n<!-- not run: a drawing -->\n```\nz\n```\n";
        let steps = steps(page).expect("steps");
        let [Step::Run { block, printed: Some(printed) }, Step::Leave(drawing, "a drawing")] = &steps[..]
        else {
            panic!("{steps:?}")
        };
        assert_eq!((block.heading.as_str(), block.text.as_str(), drawing.line), ("A", "x\n", 12));
        assert!(printed.has_note("numbers vary") && !block.has_note("numbers vary"));
    }
}
