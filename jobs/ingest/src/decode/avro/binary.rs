//! Avro's binary encoding: numbers, lengths and texts, taken from the front of a slice.
//!
//! No input panics and none allocates more than it has bytes: lengths are checked against what is there before they are
//! believed.
//!
//! Source: Avro specification 1.12, "Binary Encoding".

/// Arrays, maps, records and unions may nest this deep: the limit that JSON has.
pub(crate) const MAX_DEPTH: usize = crate::decode::scan::MAX_DEPTH;

/// Elements of a record's arrays and maps that take no bytes (nulls) are counted, not read: so many at most.
const MAX_EMPTY_ELEMENTS: usize = 1 << 16;

/// Why bytes are no record of their schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Byte of the record's value, the prefix included.
    pub(crate) at: usize,
    pub(crate) what: &'static str,
}

/// Bytes that are still to be read.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'b> {
    bytes: &'b [u8],
    at: usize,
    empty_elements: usize,
}

impl<'b> Cursor<'b> {
    /// Reads `bytes` from `at` on.
    pub(crate) fn new(bytes: &'b [u8], at: usize) -> Self {
        Self { bytes, at, empty_elements: 0 }
    }

    #[cold]
    pub(crate) fn broken(&self, what: &'static str) -> Broken {
        Broken { at: self.at, what }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Nothing may be left behind a record: it would mean that the bytes were written with another schema.
    pub(crate) fn finish(&self) -> Result<(), Broken> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.broken("bytes are left behind the record")) }
    }

    /// The next `len` bytes.
    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'b [u8], Broken> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else { return Err(self.broken("record ends too early")) };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// An int or long: zigzag, seven bits a byte.
    #[inline]
    pub(crate) fn integer(&mut self) -> Result<i64, Broken> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let Some(byte) = self.bytes.get(self.at) else { return Err(self.broken("record ends too early")) };
            self.at += 1;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
            }
        }
        Err(self.broken("a number is longer than 64 bits"))
    }

    /// A length, or the index of a symbol or branch.
    #[inline]
    pub(crate) fn index(&mut self) -> Result<usize, Broken> {
        usize::try_from(self.integer()?).map_err(|_| self.broken("a length is negative"))
    }

    pub(crate) fn boolean(&mut self) -> Result<bool, Broken> {
        match self.take(1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(self.broken("a boolean is neither 0 nor 1")),
        }
    }

    pub(crate) fn float(&mut self) -> Result<f32, Broken> {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(self.take(4)?);
        Ok(f32::from_le_bytes(bytes))
    }

    pub(crate) fn double(&mut self) -> Result<f64, Broken> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        Ok(f64::from_le_bytes(bytes))
    }

    /// Bytes with their length before them, or `fixed` ones.
    #[inline]
    pub(crate) fn bytes(&mut self, fixed: Option<usize>) -> Result<&'b [u8], Broken> {
        let len = match fixed {
            Some(len) => len,
            None => self.index()?,
        };
        self.take(len)
    }

    #[inline]
    pub(crate) fn text(&mut self) -> Result<&'b str, Broken> {
        let bytes = self.bytes(None)?;
        std::str::from_utf8(bytes).map_err(|_| self.broken("a text is not UTF-8"))
    }

    /// How many elements the next block of an array or map has; 0 at its end. A negative count says that the block's length
    /// in bytes follows, which only who skips needs.
    pub(crate) fn block(&mut self) -> Result<usize, Broken> {
        let count = self.integer()?;
        if count < 0 {
            self.index()?;
        }
        usize::try_from(count.unsigned_abs()).map_err(|_| self.broken("a block has too many elements"))
    }

    /// Is called after each element of an array or map, with where the element began. Bounds elements without bytes, which a
    /// few bytes can claim 2^63 of.
    pub(crate) fn element_read(&mut self, began_at: usize) -> Result<(), Broken> {
        self.empty_elements += usize::from(self.at == began_at);
        if self.empty_elements > MAX_EMPTY_ELEMENTS { Err(self.broken("too many empty elements")) } else { Ok(()) }
    }
}

/// A decimal's unscaled value: two's complement, big-endian. `None` beyond 128 bits.
pub(crate) fn unscaled(bytes: &[u8]) -> Option<i128> {
    let sign = if bytes.first().is_some_and(|first| first & 0x80 != 0) { 0xff } else { 0x00 };
    let surplus = bytes.len().saturating_sub(16);
    let (head, tail) = bytes.split_at(surplus);
    let fits = head.iter().all(|byte| *byte == sign) && (surplus == 0 || (tail[0] & 0x80) == (sign & 0x80));
    let mut value = [sign; 16];
    value[16 - tail.len()..].copy_from_slice(tail);
    fits.then(|| i128::from_be_bytes(value))
}

/// A decimal as text: `-2.56`.
pub(crate) fn decimal_text(unscaled: i128, scale: u32) -> String {
    let scale = usize::try_from(scale).unwrap_or(usize::MAX).min(u16::MAX.into());
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = format!("{:0width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let point = if scale > 0 { "." } else { "" };
    format!("{sign}{whole}{point}{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_to_both_ends_and_no_further() {
        let read = |bytes: &[u8]| Cursor::new(bytes, 0).integer();
        assert_eq!(read(&[0x80, 0x01]), Ok(64));
        assert_eq!(read(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), Ok(i64::MAX));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), Ok(i64::MIN));
        assert_eq!(read(&[0xff; 10]).unwrap_err().what, "a number is longer than 64 bits");
        assert_eq!(read(&[0x80]).unwrap_err().what, "record ends too early");
    }

    #[test]
    fn unscaled_values_keep_their_sign_whatever_their_length() {
        assert_eq!(unscaled(&[]), Some(0));
        assert_eq!(unscaled(&[0xff, 0x7f]), Some(-129));
        assert_eq!(unscaled(&[0x00; 40]), Some(0));
        assert_eq!(unscaled(&[0xff; 40]), Some(-1));
        assert_eq!(unscaled(&i128::MIN.to_be_bytes()), Some(i128::MIN));
        let beyond = [&[0x00][..], &i128::MIN.to_be_bytes()].concat();
        assert_eq!(unscaled(&beyond), None);
    }

    #[test]
    fn decimals_are_written_with_all_their_digits() {
        for (value, scale, text) in [(199_900, 4, "19.9900"), (-5, 4, "-0.0005"), (7, 0, "7"), (0, 2, "0.00")] {
            assert_eq!(decimal_text(value, scale), text);
        }
    }
}
