//! Parses the text of an expression into a tree of brackets. Depends on how Postgres prints
//! expressions, not on their meaning.

/// A piece of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tree {
    /// A keyword or an unquoted name, as printed.
    Word(String),
    /// The content of a quoted name.
    Quoted(String),
    Number(String),
    Text(String),
    Operator(String),
    Comma,
    /// `( … )`
    Round(Vec<Tree>),
    /// `[ … ]`
    Square(Vec<Tree>),
}

/// Maximum nesting depth. A deeper expression is not parsed.
const DEPTH_MAX: usize = 64;

/// Returns the pieces of an expression, or `None` if Postgres does not print expressions like it.
pub fn parse(text: &str) -> Option<Vec<Tree>> {
    let mut rest = text;
    let trees = sequence(&mut rest, None, 0)?;
    rest.is_empty().then_some(trees)
}

fn sequence(rest: &mut &str, close: Option<char>, depth: usize) -> Option<Vec<Tree>> {
    if depth > DEPTH_MAX {
        return None;
    }
    let mut trees = Vec::new();
    loop {
        *rest = rest.trim_start();
        let Some(first) = rest.chars().next() else { return close.is_none().then_some(trees) };
        if matches!(first, ')' | ']') {
            *rest = &rest[1..];
            return (close == Some(first)).then_some(trees);
        }
        trees.push(one(rest, first, depth)?);
    }
}

fn one(rest: &mut &str, first: char, depth: usize) -> Option<Tree> {
    match first {
        '(' | '[' => {
            *rest = &rest[1..];
            if first == '(' {
                sequence(rest, Some(')'), depth + 1).map(Tree::Round)
            } else {
                sequence(rest, Some(']'), depth + 1).map(Tree::Square)
            }
        }
        ',' => {
            *rest = &rest[1..];
            Some(Tree::Comma)
        }
        '\'' => quoted(rest, '\'').map(Tree::Text),
        '"' => quoted(rest, '"').map(Tree::Quoted),
        // Postgres prints a text that contains backslashes as E'…'.
        'E' if rest[1..].starts_with('\'') => {
            *rest = &rest[1..];
            Some(Tree::Text(quoted(rest, '\'')?.replace("\\\\", "\\")))
        }
        _ if first.is_ascii_digit() => {
            Some(Tree::Number(take(rest, |c| c.is_ascii_alphanumeric() || c == '.')))
        }
        _ if first.is_alphabetic() || first == '_' => {
            Some(Tree::Word(take(rest, |c| c.is_alphanumeric() || matches!(c, '_' | '$'))))
        }
        ':' | '.' => Some(Tree::Operator(take(rest, |c| c == first))),
        _ if OPERATORS.contains(first) => Some(Tree::Operator(take(rest, |c| OPERATORS.contains(c)))),
        _ => None,
    }
}

const OPERATORS: &str = "+-*/<>=~!@#%^&|`?";

fn take(rest: &mut &str, belongs: impl Fn(char) -> bool) -> String {
    let end = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
    let (taken, after) = rest.split_at(end);
    *rest = after;
    taken.to_owned()
}

/// Returns the text between two quotes. A doubled quote stands for one.
fn quoted(rest: &mut &str, quote: char) -> Option<String> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != quote {
            text.push(c);
        } else if chars.next_if(|(_, next)| *next == quote).is_some() {
            text.push(quote);
        } else {
            *rest = &rest[at + 1..];
            return Some(text);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn brackets_texts_and_names() {
        let trees = parse(r#"(("a ""b" <> 'it''s )'::text) AND x[1] > 0.5)"#).unwrap();
        let [Tree::Round(inner)] = &trees[..] else { panic!("{trees:?}") };
        let [
            Tree::Round(first),
            Tree::Word(and),
            Tree::Word(x),
            Tree::Square(_),
            Tree::Operator(op),
            Tree::Number(n),
        ] = &inner[..]
        else {
            panic!("{inner:?}")
        };
        assert_eq!((and.as_str(), x.as_str(), op.as_str(), n.as_str()), ("AND", "x", ">", "0.5"));
        assert_eq!(first[0], Tree::Quoted("a \"b".to_owned()));
        assert_eq!(first[2], Tree::Text("it's )".to_owned()));
        assert_eq!(parse(r"E'a\\b'").unwrap(), [Tree::Text(r"a\b".to_owned())]);
    }

    #[test]
    fn what_is_not_whole_is_nothing() {
        for text in ["(", ")", "'a", "\"a", "[)", "(]", ";", &"(".repeat(100_000)] {
            assert_eq!(parse(text), None, "{}", &text[..1]);
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn a_text_is_read_back(text in "[^\\\\]{0,50}") {
            let printed = format!("'{}'", text.replace('\'', "''"));
            prop_assert_eq!(parse(&printed).unwrap(), [Tree::Text(text)]);
        }
    }
}
