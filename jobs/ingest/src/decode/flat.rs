//! The short way through a record that is flat and plainly written, which most are.
//!
//! `{"name":"text","name":17}`: one object, no arrays or objects in it, no escapes and no control characters, numbers of
//! ordinary length. Of such a record every quote begins or ends a string, so that strings are found by looking for quotes and
//! nothing is decoded. Whatever is not of this form, rubbish included, is left to the parser: this file only ever says "yes,
//! and these are the tokens" or "ask the parser", and it says the former only where the parser would yield the same tokens (a
//! property test compares the two). A third of the parser's time.

use super::paths::Paths;
use super::scan::{Scanner, Span, Token, find};

/// Digits on either side of a number's point that are told apart here. Longer numbers are left to the parser.
const MAX_DIGITS: usize = 18;

/// Reads a flat record into a scanner that was cleared for it. `false`: it is not flat, or not JSON; what the scanner holds
/// then means nothing.
pub(super) fn scan(s: &mut Scanner, paths: &Paths, payload: &str) -> bool {
    read(s, paths, payload).is_some()
}

fn read(s: &mut Scanner, paths: &Paths, payload: &str) -> Option<()> {
    let bytes = payload.trim_end_matches([' ', '\n', '\r', '\t']).as_bytes();
    if !is_plain(bytes) {
        return None;
    }
    let level = s.extra.open();
    let mut previous = paths.first_follower(Paths::ROOT);
    let mut at = skip(bytes, skip_blanks(bytes, 0), b'{')?;
    loop {
        let key_start = skip(bytes, skip_blanks(bytes, at), b'"')?;
        let (entry, key_end) = key(s, paths, payload, bytes, key_start, &mut previous)?;
        at = skip_blanks(bytes, skip(bytes, skip_blanks(bytes, key_end + 1), b':')?);
        let start = at;
        let token;
        (token, at) = value(bytes, start)?;
        match entry {
            Some(entry) => s.put(paths.entry(entry).slot, token),
            None => s.extra.add(payload, Span { start: key_start, end: key_end }, Span { start, end: at }),
        }
        at = skip_blanks(bytes, at);
        match bytes.get(at)? {
            b',' => at += 1,
            b'}' => break,
            _ => return None,
        }
    }
    s.extra.close(level);
    // Blanks behind the object were cut off.
    (at + 1 == bytes.len()).then_some(())
}

/// No escape, no control character. Without a branch per byte the compiler looks at sixteen at a time.
fn is_plain(bytes: &[u8]) -> bool {
    !bytes.iter().fold(false, |found, byte| found || (*byte < 0x20) || (*byte == b'\\'))
}

/// The entry of the key that begins at `start`, and where it ends; first the one is tried that stood here the last time.
#[inline]
fn key(
    s: &mut Scanner,
    paths: &Paths,
    payload: &str,
    bytes: &[u8],
    start: usize,
    previous: &mut usize,
) -> Option<(Option<usize>, usize)> {
    let guess = s.followers[*previous];
    if let Some(name) = paths.guess(Paths::ROOT, guess) {
        let end = start + name.len();
        if bytes.get(end) == Some(&b'"') && bytes[start..end] == *name.as_bytes() {
            *previous = paths.follower_of(guess);
            return Some((Some(guess), end));
        }
    }
    let end = start + memchr::memchr(b'"', &bytes[start..])?;
    let key = payload.get(start..end)?;
    Some((find(paths, &mut s.followers, Paths::ROOT, previous, key), end))
}

/// The value that begins at `start`, and the place behind it.
#[inline]
fn value(bytes: &[u8], start: usize) -> Option<(Token, usize)> {
    let literal = |text: &[u8], token| bytes[start..].starts_with(text).then_some((token, start + text.len()));
    match bytes.get(start)? {
        b'"' => {
            let from = start + 1;
            let end = from + memchr::memchr(b'"', &bytes[from..])?;
            Some((Token::Text(Span { start: from, end }), end + 1))
        }
        b'-' | b'0'..=b'9' => {
            let end = number_end(bytes, start)?;
            Some((Token::Number(Span { start, end }), end))
        }
        b't' => literal(b"true", Token::Bool(true)),
        b'f' => literal(b"false", Token::Bool(false)),
        b'n' => literal(b"null", Token::Null),
        _ => None,
    }
}

/// Where the number that begins at `start` ends; `None` for what is no JSON number or an unusual one.
fn number_end(bytes: &[u8], start: usize) -> Option<usize> {
    let digits = |from: usize| {
        let rest = &bytes[from..];
        rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len())
    };
    let whole_at = start + usize::from(bytes[start] == b'-');
    let whole = digits(whole_at);
    if whole == 0 || whole > MAX_DIGITS || (whole > 1 && bytes[whole_at] == b'0') {
        return None;
    }
    let mut end = whole_at + whole;
    if bytes.get(end) == Some(&b'.') {
        let fraction = digits(end + 1);
        if fraction == 0 || fraction > MAX_DIGITS {
            return None;
        }
        end += 1 + fraction;
    }
    (!matches!(bytes.get(end), Some(b'e' | b'E'))).then_some(end)
}

#[inline]
fn skip_blanks(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at) == Some(&b' ') {
        at += 1;
    }
    at
}

/// The place behind `wanted`, if that is what stands at `at`.
#[inline]
fn skip(bytes: &[u8], at: usize, wanted: u8) -> Option<usize> {
    (bytes.get(at) == Some(&wanted)).then_some(at + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidemill_project::contract::OnExtra;

    use super::*;

    fn paths() -> Paths {
        let names = ["user_id", "timestamp", "flag", "a"].map(|name| vec![name.to_owned()]);
        Paths::new(names.iter().map(Vec::as_slice))
    }

    /// Tokens and `_extra`, if the record is flat.
    fn flat(s: &mut Scanner, payload: &str) -> Option<(Vec<Token>, Option<String>)> {
        s.clear(&paths());
        scan(s, &paths(), payload).then(|| (s.tokens.clone(), s.extra.text().map(str::to_owned)))
    }

    #[test]
    fn a_login_takes_the_short_way() {
        let mut s = Scanner::new(OnExtra::Keep);
        let payload = r#"{"user_id": "9f0c", "timestamp": 1730570189.5, "flag":true, "mood": "fine", "a": null}"#;
        let (tokens, extra) = flat(&mut s, payload).expect("flat");
        let texts: Vec<String> = tokens
            .iter()
            .map(|token| match token {
                Token::Text(span) | Token::Number(span) => span.of(payload).to_owned(),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(texts, ["9f0c", "1730570189.5", "Bool(true)", "Null"]);
        assert_eq!(extra.as_deref(), Some(r#"{"mood":"fine"}"#));
    }

    #[test]
    fn what_is_not_flat_or_not_json_is_left_to_the_parser() {
        let mut s = Scanner::new(OnExtra::Keep);
        for payload in [
            "",
            "{}",
            "[]",
            "{",
            r#"{"a":1"#,
            r#"{"a":1,}"#,
            r#"{"a":1}}"#,
            r#"{"a":1} 2"#,
            r#"{"a":01}"#,
            r#"{"a":1e5}"#,
            r#"{"a":1.}"#,
            r#"{"a":-}"#,
            r#"{"a":tru}"#,
            r#"{"a":NaN}"#,
            r#"{"a":1 2}"#,
            r#"{"a" 1}"#,
            r"{a:1}",
            r#"{"a":"\u00e9"}"#,
            "{\"a\":\"\t\"}",
            r#"{"a":[1]}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":1234567890123456789}"#,
        ] {
            assert_eq!(flat(&mut s, payload), None, "{payload}");
        }
    }

    /// Text that is nearly a flat record, with a byte changed now and then.
    fn any_text() -> impl Strategy<Value = String> {
        let key = prop::sample::select(vec!["user_id", "timestamp", "flag", "a", "", "é", "unknown"]);
        let value = prop::sample::select(vec![
            r#""text""#,
            r#""""#,
            r#""日本""#,
            "\"\u{7f}\"",
            "0",
            "-0",
            "-0.50",
            "17",
            "007",
            "1.5e3",
            "true",
            "false",
            "null",
            "nul",
            "[1]",
            "{}",
            "",
            "NaN",
        ]);
        let blank = || prop::sample::select(vec!["", " ", "  ", "\n"]);
        let field = (blank(), key, blank(), value, blank())
            .prop_map(|(one, key, two, value, three)| format!("{one}\"{key}\"{two}:{three}{value}"));
        (prop::collection::vec(field, 0..6), blank(), any::<prop::sample::Index>(), any::<char>(), 0..6).prop_map(
            |(fields, end, at, other, change)| {
                let mut text: Vec<char> = format!("{{{}}}{end}", fields.join(",")).chars().collect();
                let at = at.index(text.len());
                match change {
                    0 => text[at] = other,
                    1 => text[at] = ['"', '{', '}', ',', ':', '\\', ' ', '1'][at % 8],
                    2 => text.truncate(at),
                    _ => {}
                }
                text.into_iter().collect()
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        #[test]
        fn the_parser_yields_the_same(payloads in prop::collection::vec(any_text(), 1..6)) {
            let (mut short, mut long) = (Scanner::new(OnExtra::Keep), Scanner::new(OnExtra::Keep));
            for payload in &payloads {
                if let Some((tokens, extra)) = flat(&mut short, payload) {
                    prop_assert_eq!(long.parse(&paths(), payload), Ok(()), "{}", payload);
                    prop_assert_eq!(&tokens, &long.tokens, "{}", payload);
                    prop_assert_eq!(extra.as_deref(), long.extra.text(), "{}", payload);
                    prop_assert!(long.blocked.is_empty() && long.decoded.is_empty());
                }
            }
        }
    }
}
