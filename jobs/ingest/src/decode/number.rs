//! Exact arithmetic on decimal text: no number passes through a double unless its column is one.

use std::cmp::Ordering;

/// Beyond this an exponent says zero or too large for every column, whatever the digits: no record has that many of them.
const MAX_EXPONENT: i64 = 1 << 40;

/// A decimal number as its text says it: sign, digits before and after the point, exponent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decimal<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

/// Which spellings count as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// `-12.5`, leading zeros allowed: what a string of digits may hold (X3).
    Digits,
    /// The same with an exponent: JSON's own numbers, and text in number columns.
    Exponent,
}

impl<'a> Decimal<'a> {
    /// Reads a number; `None` if any byte does not belong to one. No sign but `-`, no blanks, digits on both sides of a point.
    pub(crate) fn parse(text: &'a [u8], spelling: Spelling) -> Option<Self> {
        let (negative, text) = match text.strip_prefix(b"-") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, rest) = digits(text)?;
        let (fraction, rest) = match rest.strip_prefix(b".") {
            Some(rest) => digits(rest)?,
            None => (&rest[..0], rest),
        };
        let exponent = match rest {
            [] => 0,
            [b'e' | b'E', rest @ ..] if spelling == Spelling::Exponent => exponent(rest)?,
            _ => return None,
        };
        Some(Self { negative, whole, fraction, exponent })
    }

    /// The number whose digits behind the point are `digits`, all of them ASCII digits.
    pub(crate) fn fraction(digits: &'a [u8]) -> Self {
        Self { negative: false, whole: b"0", fraction: digits, exponent: 0 }
    }

    /// The number times ten to the power of `shift`, cut at the point.
    pub(crate) fn scaled(&self, shift: i64) -> Scaled {
        let num_digits = self.whole.len() + self.fraction.len();
        // Where the point stands, counted in digits from the left; exponents are clamped, so this cannot overflow.
        let point = i64::try_from(self.whole.len()).unwrap_or(i64::MAX / 4) + self.exponent + shift;
        let kept = usize::try_from(point.max(0)).unwrap_or(usize::MAX).min(num_digits);
        let digit_at = |index: usize| {
            let byte =
                if index < self.whole.len() { self.whole[index] } else { self.fraction[index - self.whole.len()] };
            u128::from(byte - b'0')
        };
        let mut magnitude = Some(0_u128);
        for index in 0..kept {
            magnitude = magnitude.and_then(|m| m.checked_mul(10)?.checked_add(digit_at(index)));
        }
        let mut missing_zeros = point.max(0) - i64::try_from(kept).unwrap_or(i64::MAX);
        while missing_zeros > 0 && magnitude.is_some_and(|m| m > 0) {
            magnitude = magnitude.and_then(|m| m.checked_mul(10));
            missing_zeros -= 1;
        }
        let is_zero = |range: std::ops::Range<usize>| range.into_iter().all(|index| digit_at(index) == 0);
        // A point left of all digits means that zeros come first, so what is cut off is less than a half.
        let cut = if point < 0 || kept == num_digits {
            if is_zero(kept..num_digits) { Cut::Nothing } else { Cut::Less }
        } else {
            let rest_is_zero = is_zero(kept + 1..num_digits);
            match (digit_at(kept).cmp(&5), rest_is_zero) {
                (Ordering::Less, true) if digit_at(kept) == 0 => Cut::Nothing,
                (Ordering::Less, _) => Cut::Less,
                (Ordering::Equal, true) => Cut::Half,
                _ => Cut::More,
            }
        };
        Scaled { negative: self.negative, magnitude, cut }
    }
}

/// What was cut off, compared with half a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Nothing,
    Less,
    Half,
    More,
}

/// A whole number and the knowledge of what was cut off behind its point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scaled {
    negative: bool,
    /// `None` above 2^128.
    magnitude: Option<u128>,
    cut: Cut,
}

impl Scaled {
    /// The number if nothing was cut off.
    pub(crate) fn exact(self) -> Exact {
        match (self.cut, self.signed(0)) {
            (Cut::Nothing, Some(value)) => Exact::Whole(value),
            (Cut::Nothing, None) => Exact::TooLarge,
            _ => Exact::Fraction,
        }
    }

    /// Rounds to the nearest whole number, half away from zero (X4).
    pub(crate) fn rounded(self) -> Option<i128> {
        self.signed(u128::from(matches!(self.cut, Cut::Half | Cut::More)))
    }

    /// Rounds to the nearest whole number, half towards zero: what "half away from zero" means for the fraction that is
    /// added to a negative second.
    pub(crate) fn rounded_half_down(self) -> Option<i128> {
        self.signed(u128::from(self.cut == Cut::More))
    }

    /// Rounds down, also below zero.
    pub(crate) fn floored(self) -> Option<i128> {
        self.signed(u128::from(self.negative && self.cut != Cut::Nothing))
    }

    fn signed(self, more: u128) -> Option<i128> {
        let magnitude = i128::try_from(self.magnitude?.checked_add(more)?).ok()?;
        Some(if self.negative { -magnitude } else { magnitude })
    }
}

/// How a number fits an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exact {
    /// It is this integer: `7`, `7.0` and `7e0` alike.
    Whole(i128),
    /// It has a fraction.
    Fraction,
    /// It is whole and beyond 128 bits.
    TooLarge,
}

/// Reads up to 18 plain digits, by far the most frequent number, without the detour over a decimal.
#[inline]
pub(crate) fn short_integer(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    let mut value = 0_i64;
    for byte in text {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(byte - b'0');
    }
    Some(value)
}

fn digits(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// Reads an exponent and clamps it.
fn exponent(text: &[u8]) -> Option<i64> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let (digits, rest) = digits(text)?;
    if !rest.is_empty() {
        return None;
    }
    let magnitude = digits.iter().fold(0_i64, |value, digit| (value * 10 + i64::from(digit - b'0')).min(MAX_EXPONENT));
    Some(if negative { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled(text: &str, shift: i64) -> Scaled {
        Decimal::parse(text.as_bytes(), Spelling::Exponent).expect("a number").scaled(shift)
    }

    #[test]
    fn rounds_half_away_from_zero() {
        for (text, rounded, floored) in [
            ("1730653314.4076216", 1_730_653_314_407_622, 1_730_653_314_407_621),
            ("0.0000005", 1, 0),
            ("-0.0000005", -1, -1),
            ("0.00000049999", 0, 0),
            ("-0.00000049999", 0, -1),
            ("-1.5", -1_500_000, -1_500_000),
            ("5e-7", 1, 0),
            ("5e-8", 0, 0),
            ("17e8", 1_700_000_000_000_000, 1_700_000_000_000_000),
            ("0e999999999999999999999", 0, 0),
            ("1e-999999999999999999999", 0, 0),
        ] {
            assert_eq!(scaled(text, 6).rounded(), Some(rounded), "{text}");
            assert_eq!(scaled(text, 6).floored(), Some(floored), "{text}");
        }
    }

    #[test]
    fn knows_whole_numbers_in_any_spelling() {
        for (text, exact) in [
            ("7", Exact::Whole(7)),
            ("7.000", Exact::Whole(7)),
            ("7e0", Exact::Whole(7)),
            ("70e-1", Exact::Whole(7)),
            ("0.7e1", Exact::Whole(7)),
            ("-9223372036854775808", Exact::Whole(i128::from(i64::MIN))),
            ("7.01", Exact::Fraction),
            ("7e-1", Exact::Fraction),
            ("1e999999999999", Exact::TooLarge),
        ] {
            assert_eq!(scaled(text, 0).exact(), exact, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_number() {
        for text in ["", "-", "+1", ".5", "5.", "1e", "1e+", " 1", "1 ", "0x1", "1_000", "NaN", "inf", "١"] {
            assert!(Decimal::parse(text.as_bytes(), Spelling::Exponent).is_none(), "{text}");
        }
        assert!(Decimal::parse(b"1e5", Spelling::Digits).is_none());
        assert!(Decimal::parse(b"007.50", Spelling::Digits).is_some());
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_128_bit_arithmetic(value in proptest::num::i64::ANY, places in 0_u32..19, shift in 0_u32..10) {
            let divisor = 10_i128.pow(places);
            let magnitude = i128::from(value).abs();
            let sign = if value < 0 { "-" } else { "" };
            let width = places as usize;
            let text = if places == 0 {
                format!("{sign}{magnitude}")
            } else {
                format!("{sign}{}.{:0width$}", magnitude / divisor, magnitude % divisor)
            };
            let numerator = magnitude * 10_i128.pow(shift);
            let away = (numerator * 2 + divisor) / (divisor * 2);
            let floor = (i128::from(value) * 10_i128.pow(shift)).div_euclid(divisor);
            let number = scaled(&text, i64::from(shift));
            proptest::prop_assert_eq!(number.rounded(), Some(if value < 0 { -away } else { away }));
            proptest::prop_assert_eq!(number.floored(), Some(floor));
        }
    }
}
