//! Parses a `json` text of Postgres into a tree, as `jsonb` would hold it. Pure.
//!
//! `json` accepts texts that `jsonb` rejects. A filter is evaluated on jsonb, so on such a text no
//! filter matches.

use crate::number::Number;
use std::borrow::Cow;

/// Maximum depth. The limit of Postgres depends on `max_stack_depth`, and is higher.
const DEPTH_MAX: usize = 64;

/// A value. Strings and names are without escapes.
#[derive(Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Number(Number),
    String(Cow<'a, [u8]>),
    Array(Vec<Self>),
    /// The members in their order. Of equal names, the last one counts.
    Object(Vec<(Cow<'a, [u8]>, Self)>),
}

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// `jsonb` rejects the text: `\u0000`, or half of a surrogate pair.
    NotJsonb,
    /// Not known: a number that is too large for this crate, deep nesting, or no JSON.
    Uncertain,
}

impl<'a> Value<'a> {
    /// Parses a text.
    ///
    /// # Errors
    /// See [`Obstacle`].
    pub fn parse(text: &'a [u8]) -> Result<Self, Obstacle> {
        let mut parser = Scanner { text, at: 0 };
        let value = parser.value(0)?;
        parser.skip_space();
        if parser.at == text.len() { Ok(value) } else { Err(Obstacle::Uncertain) }
    }

    /// Returns a member of an object.
    pub fn member(&self, name: &[u8]) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().rev().find(|(other, _)| **other == *name).map(|(_, value)| value)
    }
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, wanted: &[u8]) -> Result<(), Obstacle> {
        if !self.text[self.at..].starts_with(wanted) {
            return Err(Obstacle::Uncertain);
        }
        self.at += wanted.len();
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Value<'a>, Obstacle> {
        if depth > DEPTH_MAX {
            return Err(Obstacle::Uncertain);
        }
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Value::String),
            Some(b't') => self.take(b"true").map(|()| Value::Bool(true)),
            Some(b'f') => self.take(b"false").map(|()| Value::Bool(false)),
            Some(b'n') => self.take(b"null").map(|()| Value::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(Obstacle::Uncertain),
        }
    }

    fn number(&mut self) -> Result<Value<'a>, Obstacle> {
        let rest = &self.text[self.at..];
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let end = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        self.at += end;
        Number::parse(&rest[..end]).map(Value::Number).ok_or(Obstacle::Uncertain)
    }

    fn array(&mut self, depth: usize) -> Result<Value<'a>, Obstacle> {
        let mut elements = Vec::new();
        self.list(b']', |parser| {
            elements.push(parser.value(depth + 1)?);
            Ok(())
        })?;
        Ok(Value::Array(elements))
    }

    fn object(&mut self, depth: usize) -> Result<Value<'a>, Obstacle> {
        let mut members = Vec::new();
        self.list(b'}', |parser| {
            let name = parser.string()?;
            parser.skip_space();
            parser.take(b":")?;
            members.push((name, parser.value(depth + 1)?));
            Ok(())
        })?;
        Ok(Value::Object(members))
    }

    /// Parses what is between a bracket and its counterpart.
    fn list(
        &mut self,
        end: u8,
        mut item: impl FnMut(&mut Self) -> Result<(), Obstacle>,
    ) -> Result<(), Obstacle> {
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(end) {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.skip_space();
            item(self)?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(byte) if byte == end => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Obstacle::Uncertain),
            }
        }
    }

    fn string(&mut self) -> Result<Cow<'a, [u8]>, Obstacle> {
        let (string, length) = string(&self.text[self.at..])?;
        self.at += length;
        Ok(string)
    }
}

/// Parses the JSON string at the beginning of a text. Returns it without escapes, and its length in
/// the text.
///
/// # Errors
/// See [`Obstacle`].
pub fn string(text: &[u8]) -> Result<(Cow<'_, [u8]>, usize), Obstacle> {
    let [b'"', text @ ..] = text else { return Err(Obstacle::Uncertain) };
    let mut out: Option<Vec<u8>> = None;
    let mut at = 0;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
        let plain = plain.ok_or(Obstacle::Uncertain)?;
        at += plain;
        match rest[plain] {
            b'"' => {
                let string = match out {
                    None => Cow::Borrowed(&text[..at]),
                    Some(mut out) => {
                        out.extend_from_slice(&rest[..plain]);
                        Cow::Owned(out)
                    }
                };
                return Ok((string, at + 2));
            }
            b'\\' => {
                let out = out.get_or_insert_default();
                out.extend_from_slice(&rest[..plain]);
                at += escape(&text[at..], out)?;
            }
            _ => return Err(Obstacle::Uncertain),
        }
    }
}

/// Decodes the escape at the beginning of a text. Returns its length.
fn escape(text: &[u8], out: &mut Vec<u8>) -> Result<usize, Obstacle> {
    let byte = match text.get(1) {
        Some(byte @ (b'"' | b'\\' | b'/')) => *byte,
        Some(b'b') => 8,
        Some(b'f') => 12,
        Some(b'n') => b'\n',
        Some(b'r') => b'\r',
        Some(b't') => b'\t',
        Some(b'u') => return unicode_escape(text, out),
        _ => return Err(Obstacle::Uncertain),
    };
    out.push(byte);
    Ok(2)
}

fn unicode_escape(text: &[u8], out: &mut Vec<u8>) -> Result<usize, Obstacle> {
    let unit = |at: usize| {
        let digits = text.get(at..at + 4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
    };
    let first = unit(2).ok_or(Obstacle::Uncertain)?;
    let (code, length) = match first {
        0 => return Err(Obstacle::NotJsonb),
        0xd800..0xdc00 => {
            let second = text.get(6..8).filter(|escape| *escape == b"\\u").and_then(|_| unit(8));
            let second = second.filter(|unit| (0xdc00..0xe000).contains(unit)).ok_or(Obstacle::NotJsonb)?;
            (0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00), 12)
        }
        _ => (first, 6),
    };
    let character = char::from_u32(code).ok_or(Obstacle::NotJsonb)?;
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Ok(length)
}
