//! The shape of a subscription's requests: the words of `webhook.subscription.format` and
//! `.payload_mode`. Pure.

/// Layout and content type of a body. The CHECK `format_is_known` has the same list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// A JSON object with the event's attributes, `data`, and `previous`.
    #[default]
    Standard,
    /// CloudEvents 1.0 in one JSON object.
    CloudEventsStructured,
    /// CloudEvents 1.0 with the attributes in headers; the body is `data`.
    CloudEventsBinary,
    /// The fields of an HTML form.
    Form,
    /// `data` and nothing else.
    Raw,
    /// The body of Supabase's Database Webhooks.
    Supabase,
    /// The body of Hasura's event triggers.
    Hasura,
}

/// How much of an event is sent. The CHECK `payload_mode_is_known` has the same list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PayloadMode {
    /// `data` and `previous`.
    #[default]
    Full,
    /// Neither: only the table and the key.
    Thin,
    /// Only the members of `data` that `previous` has too.
    Changed,
}

/// Format and payload mode. Subscriptions with the same shape share an event's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Shape {
    pub format: Format,
    pub payload_mode: PayloadMode,
}

impl Format {
    /// Every format, in the order of the CHECK.
    pub const ALL: [Self; 7] = [
        Self::Standard,
        Self::CloudEventsStructured,
        Self::CloudEventsBinary,
        Self::Form,
        Self::Raw,
        Self::Supabase,
        Self::Hasura,
    ];

    /// Returns the word in `webhook.subscription.format`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::CloudEventsStructured => "cloudevents-structured",
            Self::CloudEventsBinary => "cloudevents-binary",
            Self::Form => "form",
            Self::Raw => "raw",
            Self::Supabase => "supabase",
            Self::Hasura => "hasura",
        }
    }

    /// Returns the format with this name, or `None` if there is none.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == word)
    }

    /// Reports whether one body can hold several events. The CHECK
    /// `only_formats_with_an_envelope_batch` has the same rule.
    pub fn batches(self) -> bool {
        matches!(self, Self::Standard | Self::CloudEventsStructured)
    }
}

impl PayloadMode {
    /// Every mode, in the order of the CHECK.
    pub const ALL: [Self; 3] = [Self::Full, Self::Thin, Self::Changed];

    /// Returns the word in `webhook.subscription.payload_mode`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Thin => "thin",
            Self::Changed => "changed",
        }
    }

    /// Returns the mode with this name, or `None` if there is none.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == word)
    }
}

impl Shape {
    /// The number of shapes.
    pub const COUNT: usize = Format::ALL.len() * PayloadMode::ALL.len();

    /// Returns the shape's index. Index 0 is the standard format with the full payload.
    pub fn index(self) -> usize {
        self.format as usize * PayloadMode::ALL.len() + self.payload_mode as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Returns the words of a CHECK in the contract.
    fn words(constraint: &str) -> Vec<&'static str> {
        let sql = include_str!("../../../sql/subscription.sql");
        let check = sql.split(constraint).nth(1).unwrap();
        check
            .split(" in")
            .nth(1)
            .unwrap()
            .split("))")
            .next()
            .unwrap()
            .split('\'')
            .skip(1)
            .step_by(2)
            .collect()
    }

    #[test]
    fn the_check_constraints_know_the_same_words() {
        assert_eq!(words("format_is_known"), Format::ALL.map(Format::as_str));
        assert_eq!(words("payload_mode_is_known"), PayloadMode::ALL.map(PayloadMode::as_str));
        let batching = Format::ALL.into_iter().filter(|format| format.batches()).map(Format::as_str);
        assert_eq!(words("only_formats_with_an_envelope_batch"), batching.collect::<Vec<_>>());
    }

    #[test]
    fn words_and_values_are_one_to_one() {
        for format in Format::ALL {
            assert_eq!(Format::parse(format.as_str()), Some(format));
        }
        for mode in PayloadMode::ALL {
            assert_eq!(PayloadMode::parse(mode.as_str()), Some(mode));
        }
        assert_eq!((Format::parse("xml"), PayloadMode::parse("")), (None, None));
    }

    #[test]
    fn every_shape_has_a_place_of_its_own() {
        let shapes = Format::ALL
            .into_iter()
            .flat_map(|format| PayloadMode::ALL.map(|payload_mode| Shape { format, payload_mode }));
        let places: BTreeSet<usize> = shapes.map(Shape::index).collect();
        assert_eq!(places, (0..Shape::COUNT).collect());
        assert_eq!(Shape::default().index(), 0);
    }
}
