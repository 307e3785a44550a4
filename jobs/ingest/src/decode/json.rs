//! JSON as X6 writes it: no blanks, and only what must be escaped is escaped.

use std::fmt::Write;

/// Appends `text` as a JSON string: `"` and `\` and controls below U+0020 are escaped, these as `\b \t \n \f \r` or as
/// `\u00hh` in lower case; everything else stays as UTF-8 (X6).
pub(crate) fn write_string(out: &mut String, text: &str) {
    out.push('"');
    // Without a branch per byte the compiler looks at sixteen at a time, and hardly any text needs an escape.
    if !text.bytes().fold(false, |found, byte| found | needs_escape(byte)) {
        out.push_str(text);
        out.push('"');
        return;
    }
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        if !needs_escape(byte) {
            continue;
        }
        out.push_str(&text[from..at]);
        from = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            0x08 => out.push_str("\\b"),
            b'\t' => out.push_str("\\t"),
            b'\n' => out.push_str("\\n"),
            0x0c => out.push_str("\\f"),
            b'\r' => out.push_str("\\r"),
            _ => write!(out, "\\u{byte:04x}").expect("a string takes whatever is written to it"),
        }
    }
    out.push_str(&text[from..]);
    out.push('"');
}

fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_x6_names_and_nothing_else() {
        let mut out = String::new();
        write_string(&mut out, "a\"\\\u{8}\t\n\u{c}\r\u{0}\u{1f}/\u{7f}é日😀");
        assert_eq!(out, r#""a\"\\\b\t\n\f\r\u0000\u001f/"#.to_owned() + "\u{7f}é日😀\"");
    }

    proptest::proptest! {
        #[test]
        fn reads_back_as_the_same_text(text in "\\PC*|[\u{0}-\u{ff}]*") {
            let mut out = String::new();
            write_string(&mut out, &text);
            proptest::prop_assert_eq!(serde_json::from_str::<String>(&out).expect("valid JSON"), text);
        }
    }
}
