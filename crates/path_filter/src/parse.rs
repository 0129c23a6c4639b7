//! Parses the text that Postgres prints of a jsonpath (`jsonpath_out`). Pure.
//!
//! Such a text puts names in quotation marks, writes numbers without an exponent, and begins with
//! `strict` in strict mode. The parser takes names without quotation marks, too. It returns `None`
//! for everything that it does not know.

use crate::{Comparison, Condition, Kind, Literal, Operand, Path, Step, json, number::Number};

/// Maximum depth of conditions. Printed paths have one level for each `&&`.
const DEPTH_MAX: usize = 64;

/// Parses a whole filter.
pub fn filter(text: &str) -> Option<Kind> {
    let mut parser = Parser { text: text.as_bytes(), at: 0, depth: 0 };
    let kind = match parser.term(true)? {
        Term::Operand(Operand::Path(path)) => Kind::Path(path),
        Term::Operand(Operand::Literal(_)) => return None,
        Term::Condition(condition) => Kind::Condition(condition),
    };
    parser.skip_space();
    (parser.at == parser.text.len()).then_some(kind)
}

/// A condition, or a side of one.
enum Term {
    Condition(Condition),
    Operand(Operand),
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn skip_space(&mut self) {
        while self.text.get(self.at).is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Takes a symbol after any space. Reports whether it was there.
    fn takes(&mut self, symbol: &str) -> bool {
        self.skip_space();
        let is_there = self.text[self.at..].starts_with(symbol.as_bytes());
        self.at += if is_there { symbol.len() } else { 0 };
        is_there
    }

    /// Takes a word that no further letter follows.
    fn takes_word(&mut self, word: &str) -> bool {
        let before = self.at;
        let is_there = self.takes(word)
            && !self.text.get(self.at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        if !is_there {
            self.at = before;
        }
        is_there
    }

    fn expect(&mut self, symbol: &str) -> Option<()> {
        self.takes(symbol).then_some(())
    }

    fn condition(&mut self) -> Option<Condition> {
        match self.term(true)? {
            Term::Condition(condition) => Some(condition),
            Term::Operand(_) => None,
        }
    }

    /// Parses alternatives, unless the term is only a side of a comparison (`is_whole` is false).
    fn term(&mut self, is_whole: bool) -> Option<Term> {
        self.depth += 1;
        let term = if self.depth > DEPTH_MAX {
            None
        } else if is_whole {
            self.alternatives()
        } else {
            self.operand().map(Term::Operand)
        };
        self.depth -= 1;
        term
    }

    fn alternatives(&mut self) -> Option<Term> {
        let mut one = self.conjunction()?;
        while self.takes("||") {
            let (Term::Condition(left), Term::Condition(right)) = (one, self.conjunction()?) else {
                return None;
            };
            one = Term::Condition(Condition::Or(left.into(), right.into()));
        }
        Some(one)
    }

    fn conjunction(&mut self) -> Option<Term> {
        let mut one = self.predicate()?;
        while self.takes("&&") {
            let (Term::Condition(left), Term::Condition(right)) = (one, self.predicate()?) else {
                return None;
            };
            one = Term::Condition(Condition::And(left.into(), right.into()));
        }
        Some(one)
    }

    fn predicate(&mut self) -> Option<Term> {
        self.skip_space();
        if self.takes("!") {
            self.expect("(")?;
            let inner = self.condition()?;
            self.expect(")")?;
            return Some(Term::Condition(Condition::Not(inner.into())));
        }
        if self.takes("(") {
            let inner = self.condition()?;
            self.expect(")")?;
            if !self.takes_word("is") {
                return Some(Term::Condition(inner));
            }
            let is_unknown = self.takes_word("unknown");
            return is_unknown.then(|| Term::Condition(Condition::IsUnknown(inner.into())));
        }
        if self.takes_word("exists") {
            self.expect("(")?;
            let Operand::Path(path) = self.operand()? else { return None };
            self.expect(")")?;
            return Some(Term::Condition(Condition::Exists(path)));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Option<Term> {
        let Term::Operand(one) = self.term(false)? else { return None };
        if self.takes_word("starts") {
            if !self.takes_word("with") {
                return None;
            }
            let Literal::String(start) = self.literal()? else { return None };
            return Some(Term::Condition(Condition::StartsWith(one, start)));
        }
        const COMPARISONS: [(&str, Comparison); 7] = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<>", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        for (symbol, comparison) in COMPARISONS {
            if self.takes(symbol) {
                let other = self.operand()?;
                return Some(Term::Condition(Condition::Compare(one, comparison, other)));
            }
        }
        Some(Term::Operand(one))
    }

    fn operand(&mut self) -> Option<Operand> {
        self.skip_space();
        let is_from_root = match self.text.get(self.at)? {
            b'$' => true,
            b'@' => false,
            _ => return self.literal().map(Operand::Literal),
        };
        self.at += 1;
        // `$"name"` and `$name` are variables.
        if self.text.get(self.at).is_some_and(|byte| *byte == b'"' || is_name(*byte)) {
            return None;
        }
        let mut steps = Vec::new();
        loop {
            if self.takes(".") {
                steps.push(Step::Member(self.name()?));
            } else if self.takes("[") {
                self.expect("*")?;
                self.expect("]")?;
                steps.push(Step::Elements);
            } else if self.takes("?") {
                self.expect("(")?;
                let condition = self.condition()?;
                self.expect(")")?;
                steps.push(Step::Filter(condition));
            } else {
                return Some(Operand::Path(Path { is_from_root, steps: steps.into() }));
            }
        }
    }

    /// Parses the name of a member. A name before a parenthesis is a method.
    fn name(&mut self) -> Option<Box<[u8]>> {
        self.skip_space();
        let rest = &self.text[self.at..];
        if rest.first() == Some(&b'"') {
            return self.string();
        }
        let length = rest.iter().position(|byte| !is_name(*byte)).unwrap_or(rest.len());
        if length == 0 || rest[0].is_ascii_digit() {
            return None;
        }
        self.at += length;
        let name = rest[..length].into();
        let after = self.at;
        let is_method = self.takes("(");
        self.at = after;
        (!is_method).then_some(name)
    }

    fn string(&mut self) -> Option<Box<[u8]>> {
        let (string, length) = json::string(&self.text[self.at..]).ok()?;
        self.at += length;
        Some(string.into())
    }

    fn literal(&mut self) -> Option<Literal> {
        self.skip_space();
        let rest = &self.text[self.at..];
        match rest.first()? {
            b'"' => return self.string().map(Literal::String),
            b'-' | b'0'..=b'9' => {}
            _ if self.takes_word("true") => return Some(Literal::Bool(true)),
            _ if self.takes_word("false") => return Some(Literal::Bool(false)),
            _ if self.takes_word("null") => return Some(Literal::Null),
            _ => return None,
        }
        let is_part = |byte: u8| is_name(byte) || matches!(byte, b'.' | b'-' | b'+');
        let length = 1 + rest[1..].iter().position(|byte| !is_part(*byte)).unwrap_or(rest.len() - 1);
        self.at += length;
        Number::parse(&rest[..length]).map(Literal::Number)
    }
}

/// Reports whether a byte can be in a name without quotation marks, of the names known here.
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}
