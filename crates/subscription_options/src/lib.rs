//! The options of a subscription, in one table.
//!
//! The functions `webhook_subscribe` and `webhook_alter`, the REST API with its document, the form
//! of the page, and the commands read this table. A new option needs:
//!
//! 1. a row here,
//! 2. a column in `sql/subscription.sql`,
//! 3. a parameter of the two functions in `sql/functions.sql`, in the same place,
//!
//! and the code where it takes effect. The crate reads and writes nothing.

mod table;

pub use table::OPTIONS;

/// The values of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text of at most this many characters.
    Text {
        max: u32,
    },
    /// One word of a list.
    Word(&'static [&'static str]),
    /// Several texts.
    Texts {
        min: u32,
        max: u32,
    },
    Boolean,
    Integer {
        min: i32,
        max: i32,
    },
    Number,
    Interval,
    Intervals {
        max: u32,
    },
    /// A path of SQL/JSON.
    JsonPath,
    /// A JSON object of texts.
    Object,
    /// Any JSON object, of at most this many bytes.
    Json {
        max: usize,
    },
}

impl Kind {
    /// Returns the type of the column and of the parameters.
    pub const fn sql_type(self) -> &'static str {
        match self {
            Self::Text { .. } | Self::Word(_) => "text",
            Self::Texts { .. } => "text[]",
            Self::Boolean => "boolean",
            Self::Integer { .. } => "integer",
            Self::Number => "numeric",
            Self::Interval => "interval",
            Self::Intervals { .. } => "interval[]",
            Self::JsonPath => "jsonpath",
            Self::Object | Self::Json { .. } => "jsonb",
        }
    }

    pub const fn is_array(self) -> bool {
        matches!(self, Self::Texts { .. } | Self::Intervals { .. })
    }
}

/// How the page shows an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// The page does not show it in the form.
    Hidden,
    /// A line of text. Several values are separated by spaces.
    Line,
    /// Several lines of text, with one value each.
    Lines,
    /// A list to choose from.
    Choice,
    Checkbox,
}

/// An option of a subscription.
#[derive(Debug, Clone, Copy)]
pub struct SubscriptionOption {
    pub name: &'static str,
    pub kind: Kind,
    /// No value is a value: `webhook_alter(…, clear => …)` and null in the REST API.
    pub is_nullable: bool,
    /// It is written and never shown.
    pub is_secret: bool,
    /// For the document of the REST API. Empty if the name says enough.
    pub description: &'static str,
    /// For errors of the SQL API that name the default.
    pub hint: &'static str,
    pub control: Control,
    /// The label in the form, and the hint beside it.
    pub label: &'static str,
    pub label_hint: &'static str,
    /// The form always shows it. Other options are folded away.
    pub is_basic: bool,
}

/// Returns the option with this name.
pub fn find(name: &str) -> Option<&'static SubscriptionOption> {
    OPTIONS.iter().find(|option| option.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns name and type of the parameters of a function from `url` on.
    fn parameters(function: &str) -> Vec<(String, String)> {
        let sql = include_str!("../../../sql/functions.sql");
        let start = format!("create function @extschema@.{function}(");
        let list = sql.split(&start).nth(1).unwrap().split("\n) returns").next().unwrap();
        let words = |line: &str| {
            let mut words = line.split_whitespace().map(|word| word.trim_end_matches(','));
            (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned())
        };
        list.lines()
            .map(words)
            .skip_while(|(name, _)| name != "url")
            .take_while(|(name, _)| name != "clear")
            .collect()
    }

    #[test]
    fn the_sql_functions_have_the_same_options() {
        let own: Vec<(String, String)> = OPTIONS
            .iter()
            .map(|option| (option.name.to_owned(), option.kind.sql_type().to_owned()))
            .collect();
        for function in ["webhook_subscribe", "webhook_alter"] {
            assert_eq!(parameters(function), own, "{function}");
        }
    }

    #[test]
    fn the_table_of_subscriptions_has_a_column_for_each() {
        let sql = include_str!("../../../sql/subscription.sql");
        let table =
            sql.split("create table webhook.subscription (").nth(1).unwrap().split("\n);").next().unwrap();
        for option in OPTIONS.iter().filter(|option| !option.is_secret) {
            let is_there = table.lines().any(|line| {
                let mut words = line.split_whitespace().map(|word| word.trim_end_matches(','));
                words.next() == Some(option.name) && words.next() == Some(option.kind.sql_type())
            });
            assert!(is_there, "{}", option.name);
            if let Kind::Word(words) = option.kind {
                let check = table.split(&format!("{}_is_known check", option.name)).nth(1).unwrap();
                let check = check.split("))").next().unwrap();
                assert!(words.iter().all(|word| check.contains(&format!("'{word}'"))), "{}", option.name);
            }
        }
    }
}
