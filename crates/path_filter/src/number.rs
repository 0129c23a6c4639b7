//! Decimal numbers of any size, compared like `numeric`. Pure.

use std::cmp::Ordering;

/// Maximum number of bytes of a number, and of its exponent as a number. `numeric` holds numbers
/// that are far larger, and rejects some of them.
const BYTES_MAX: usize = 1000;
const EXPONENT_MAX: i64 = 1000;

/// A number. Equal values have one form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Number {
    /// Most numbers.
    Integer(i64),
    /// Numbers that are not an `i64` of up to 18 digits. Boxed, because they are rare.
    Decimal(Box<Decimal>),
}

/// `0.d₁d₂… × 10^exponent`; the first and the last digit are not 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Decimal {
    is_negative: bool,
    exponent: i64,
    digits: Vec<u8>,
}

/// Number of digits that fit an `i64`.
const INTEGER_DIGITS_MAX: i64 = 18;

impl Number {
    /// Parses a JSON number. Returns `None` if it is not one, or if it is too large.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > BYTES_MAX {
            return None;
        }
        let (is_negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            _ => (false, text),
        };
        let (mantissa, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(at) => (&text[..at], exponent(&text[at + 1..])?),
            None => (text, 0),
        };
        let (whole, fraction) = match mantissa.iter().position(|byte| *byte == b'.') {
            Some(at) => (&mantissa[..at], digits(&mantissa[at + 1..])?),
            None => (mantissa, &[][..]),
        };
        let whole = digits(whole)?;
        if whole.len() > 1 && whole[0] == b'0' {
            return None;
        }
        Some(Self::of(is_negative, whole, fraction, exponent))
    }

    fn of(is_negative: bool, whole: &[u8], fraction: &[u8], exponent: i64) -> Self {
        let is_small = fraction.is_empty() && exponent == 0 && whole.len() <= INTEGER_DIGITS_MAX as usize;
        if is_small {
            return Self::integer(is_negative, whole, 0);
        }
        let all = || whole.iter().chain(fraction).copied();
        let zeros = all().take_while(|digit| *digit == b'0').count();
        let mut digits: Vec<u8> = all().skip(zeros).collect();
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        if digits.is_empty() {
            return Self::Integer(0);
        }
        let exponent = whole.len() as i64 - zeros as i64 + exponent;
        let trailing_zeros = exponent - digits.len() as i64;
        if trailing_zeros >= 0 && exponent <= INTEGER_DIGITS_MAX {
            return Self::integer(is_negative, &digits, trailing_zeros);
        }
        Self::Decimal(Box::new(Decimal { is_negative, exponent, digits }))
    }

    /// Returns an integer of at most 18 digits.
    fn integer(is_negative: bool, digits: &[u8], trailing_zeros: i64) -> Self {
        let mut value = digits.iter().fold(0, |value: i64, digit| value * 10 + i64::from(digit - b'0'));
        for _ in 0..trailing_zeros {
            value *= 10;
        }
        Self::Integer(if is_negative { -value } else { value })
    }
}

/// Returns the text if it is digits, and not empty.
fn digits(text: &[u8]) -> Option<&[u8]> {
    (!text.is_empty() && text.iter().all(u8::is_ascii_digit)).then_some(text)
}

fn exponent(text: &[u8]) -> Option<i64> {
    let unsigned = text.strip_prefix(b"+").or_else(|| text.strip_prefix(b"-")).unwrap_or(text);
    let value: i64 = str::from_utf8(digits(unsigned)?).ok()?.parse().ok()?;
    (value <= EXPONENT_MAX).then_some(if text[0] == b'-' { -value } else { value })
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Integer(one), Self::Integer(other)) => one.cmp(other),
            (Self::Decimal(one), Self::Decimal(other)) => one.cmp(other),
            (Self::Decimal(one), Self::Integer(other)) => (**one).cmp(&Decimal::from(*other)),
            (Self::Integer(one), Self::Decimal(other)) => Decimal::from(*one).cmp(other),
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<i64> for Decimal {
    /// Zero has no digits.
    fn from(value: i64) -> Self {
        let mut digits = value.unsigned_abs().to_string().into_bytes();
        let exponent = digits.len() as i64;
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        Self { is_negative: value < 0, exponent, digits }
    }
}

impl Decimal {
    /// Returns -1, 0 or 1.
    fn sign(&self) -> i8 {
        match (self.digits.is_empty(), self.is_negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let (one, two) = if self.is_negative { (other, self) } else { (self, other) };
        let size = || one.exponent.cmp(&two.exponent).then_with(|| one.digits.cmp(&two.digits));
        self.sign().cmp(&other.sign()).then_with(size)
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    //! Equal values are equal in any spelling, and numbers are ordered by value.

    use super::*;
    use proptest::prelude::*;

    fn number(text: &str) -> Number {
        Number::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn equal_values_have_one_form() {
        for same in [
            &["0", "-0", "0.0", "0e9", "-0.00e-3"][..],
            &["100", "1e2", "100.00", "0.1E3", "10000e-2"],
            &["-1.5", "-15e-1", "-1.50"],
            &["1e400", "10e399", "0.1e401"],
            &["123456789012345678", "1234567890123456.78e2"],
            &["1234567890123456789", "1.234567890123456789e18"],
        ] {
            for text in same {
                assert_eq!(number(text), number(same[0]), "{text}");
                assert_eq!(number(text).cmp(&number(same[0])), Ordering::Equal, "{text}");
            }
        }
    }

    #[test]
    fn the_order_is_that_of_the_values() {
        let ascending = [
            "-1e400",
            "-9223372036854775809",
            "-123456789012345678",
            "-2",
            "-1.5",
            "-1",
            "-1e-400",
            "0",
            "1e-400",
            "0.1",
            "0.10000000000000000001",
            "1",
            "1.5",
            "2",
            "10",
            "99.99",
            "100",
            "999999999999999999",
            "1000000000000000000",
            "9223372036854775808",
            "1e400",
        ];
        for (at, one) in ascending.iter().enumerate() {
            for (other_at, other) in ascending.iter().enumerate() {
                assert_eq!(number(one).cmp(&number(other)), at.cmp(&other_at), "{one} and {other}");
            }
        }
    }

    #[test]
    fn what_is_too_large_or_no_number_is_not_parsed() {
        let long = "1".repeat(BYTES_MAX + 1);
        for text in ["", "-", "+1", "01", "1.", ".5", "1e", "1e+", "1e1001", "1e-99999", "0x1", "1_0", &long]
        {
            assert_eq!(Number::parse(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn small_numbers_are_ordered_like_integers(
            one in -1_000_000i64..1_000_000, other in -1_000_000i64..1_000_000, scale in 0usize..8,
        ) {
            let spelled = |value: i64| number(&format!("{value}{}e-{scale}", "0".repeat(scale)));
            prop_assert_eq!(spelled(one).cmp(&number(&other.to_string())), one.cmp(&other));
            let tenths = |value: i64| number(&format!("{value}e-{scale}"));
            prop_assert_eq!(tenths(one).cmp(&tenths(other)), one.cmp(&other));
            prop_assert_eq!(tenths(one) == tenths(other), one == other);
        }
    }
}
