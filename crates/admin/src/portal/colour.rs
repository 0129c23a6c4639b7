//! The accent colour of the application, and the colours that follow from it. Pure.
//!
//! Any colour can be an accent, such as a light yellow. So text on it is black or white: the one
//! that contrasts more. As the colour of links and outlines, it is darkened on the light page, and
//! lightened on the dark one, until people can read it (WCAG 2.1, 1.4.3).

/// The lowest contrast of text.
const READABLE: f64 = 4.6;
/// The backgrounds of `style.css` that contrast least, light and dark.
const LIGHT: Colour = Colour([0xf1, 0xf2, 0xf4]);
const DARK: Colour = Colour([0x1c, 0x1f, 0x24]);
const BLACK: Colour = Colour([0; 3]);
const WHITE: Colour = Colour([255; 3]);

/// A colour of sRGB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour([u8; 3]);

impl Colour {
    /// Parses `#rrggbb`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6)?;
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u32::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
        let [_, red, green, blue] = number.to_be_bytes();
        Some(Self([red, green, blue]))
    }

    /// Returns the relative luminance, 0 to 1.
    fn luminance(self) -> f64 {
        let linear = self.0.map(|value| {
            let value = f64::from(value) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        });
        0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    }

    /// Returns the contrast ratio of two colours, 1 to 21.
    fn contrast(self, other: Self) -> f64 {
        let (one, two) = (self.luminance(), other.luminance());
        (one.max(two) + 0.05) / (one.min(two) + 0.05)
    }

    /// Returns the colour with a share of another one, in percent.
    fn mixed(self, other: Self, percent: u16) -> Self {
        let mix = |at: usize| {
            let (own, other) = (u16::from(self.0[at]), u16::from(other.0[at]));
            let value = (own * (100 - percent) + other * percent) / 100;
            u8::try_from(value).unwrap_or(u8::MAX)
        };
        Self([mix(0), mix(1), mix(2)])
    }

    /// Returns the nearest colour on the way to `towards` that people can read on a background.
    fn readable_on(self, background: Self, towards: Self) -> Self {
        let candidates = (0..=100).step_by(4).map(|percent| self.mixed(towards, percent));
        candidates.into_iter().find(|one| one.contrast(background) >= READABLE).unwrap_or(towards)
    }

    /// Returns black or white, for text on this colour.
    fn text(self) -> Self {
        if self.contrast(BLACK) >= self.contrast(WHITE) { BLACK } else { WHITE }
    }

    /// Returns the style sheet that sets the accent of the page.
    pub fn style_sheet(self) -> String {
        format!(
            ":root {{ --accent: {}; --fill: {self}; --on-fill: {}; }}\n\
             @media (prefers-color-scheme: dark) {{ :root {{ --accent: {}; }} }}\n",
            self.readable_on(LIGHT, BLACK),
            self.text(),
            self.readable_on(DARK, WHITE),
        )
    }
}

impl std::fmt::Display for Colour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [red, green, blue] = self.0;
        write!(f, "#{red:02x}{green:02x}{blue:02x}")
    }
}

#[cfg(test)]
mod tests {
    //! Known contrasts, and the readability of any colour.

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn contrasts_are_those_of_the_standard() {
        assert!((WHITE.contrast(BLACK) - 21.0).abs() < 0.01);
        assert!((Colour::parse("#767676").unwrap().contrast(WHITE) - 4.54).abs() < 0.01);
    }

    #[test]
    fn other_texts_are_no_colours() {
        for text in ["", "#fff", "0b62c4", "#0b62c", "#0b62c4;", "#+b62c4", "red"] {
            assert_eq!(Colour::parse(text), None, "{text}");
        }
        assert_eq!(Colour::parse("#0B62c4").unwrap().to_string(), "#0b62c4");
    }

    proptest! {
        #[test]
        fn any_accent_is_readable(bytes: [u8; 3]) {
            let accent = Colour(bytes);
            prop_assert!(accent.contrast(accent.text()) >= 4.5);
            prop_assert!(accent.readable_on(LIGHT, BLACK).contrast(LIGHT) >= 4.5);
            prop_assert!(accent.readable_on(DARK, WHITE).contrast(DARK) >= 4.5);
        }
    }
}
