//! The encoding of a database, and what it means for the texts that a session reads.
//!
//! In a database that is not in UTF-8, texts may hold what UTF-8 lacks. Its sessions read a
//! replacement character instead (`webhook.replace_untranslatable()`), or, without an encoding, the
//! bytes as they are.

use crate::value::Raw;
use std::borrow::Cow;
use tokio_postgres::{
    Client, Error,
    types::{FromSql, Type},
};

/// The encodings that differ for a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// Every text is UTF-8.
    #[default]
    Utf8,
    /// None (SQL_ASCII): the bytes come as they are.
    None,
    /// Another one. U+FFFD stands for what UTF-8 lacks.
    Other,
}

impl Encoding {
    /// Prepares a session, and returns what it reads.
    ///
    /// In a database without the function, because its extension is of an earlier version or it has
    /// none, a text that cannot be translated remains an error.
    pub(super) async fn prepare(client: &Client, server_encoding: Option<&str>) -> Result<Self, Error> {
        let encoding = match server_encoding {
            None | Some("UTF8") => return Ok(Self::Utf8),
            Some("SQL_ASCII") => Self::None,
            Some(_) => Self::Other,
        };
        match client.batch_execute("select webhook.replace_untranslatable()").await {
            Ok(()) => Ok(encoding),
            Err(error) if error.code().is_some() => Ok(Self::Utf8),
            Err(error) => Err(error),
        }
    }

    /// Reads a text. Returns whether a part of it was replaced.
    pub fn read(self, text: &[u8]) -> (Cow<'_, str>, bool) {
        let read = String::from_utf8_lossy(text);
        let is_replaced = match self {
            Self::Utf8 => false,
            Self::None => matches!(read, Cow::Owned(_)),
            Self::Other => read.contains(char::REPLACEMENT_CHARACTER),
        };
        (read, is_replaced)
    }
}

/// A text whose bytes need not be UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(pub String);

impl<'a> FromSql<'a> for Text {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Raw::from_sql(ty, raw).map(|raw| Self(String::from_utf8_lossy(raw.0).into_owned()))
    }

    fn accepts(ty: &Type) -> bool {
        <Raw<'_> as FromSql<'_>>::accepts(ty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_replaced_is_known() {
        let replaced = |encoding: Encoding, text: &[u8]| {
            let (read, is_replaced) = encoding.read(text);
            (read.into_owned(), is_replaced)
        };
        assert_eq!(replaced(Encoding::Other, "é".as_bytes()), ("é".to_owned(), false));
        assert_eq!(replaced(Encoding::Other, "a\u{fffd}".as_bytes()), ("a\u{fffd}".to_owned(), true));
        assert_eq!(replaced(Encoding::None, b"a\xe9"), ("a\u{fffd}".to_owned(), true));
        assert!(!replaced(Encoding::None, "a\u{fffd}".as_bytes()).1, "it was written so");
        assert!(!replaced(Encoding::Utf8, "a\u{fffd}".as_bytes()).1);
    }
}
