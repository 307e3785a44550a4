//! Cuts a template into text, tags and comments, the way Jinja's lexer does.

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text that is printed as it stands.
    Text,
    /// `{{ … }}`.
    Output,
    /// `{% … %}`.
    Block,
    /// `{# … #}`.
    Comment,
    /// `{% raw %} … {% endraw %}`, tags and all.
    Raw,
}

/// A piece: bytes `start..end` of the template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// All pieces of a template, without gaps. A tag that is not closed reaches to the end; the parser complains about it.
pub(super) fn pieces(text: &str) -> Vec<Piece> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut text_start = 0;
    let mut at = 0;
    while let Some(offset) = memchr_brace(&bytes[at..]) {
        let start = at + offset;
        let (kind, end) = match bytes.get(start + 1) {
            Some(b'{') => (Kind::Output, end_of_tag(bytes, start + 2, *b"}}")),
            Some(b'%') => {
                let end = end_of_tag(bytes, start + 2, *b"%}");
                if first_word(&text[start..end]) == "raw" {
                    (Kind::Raw, end_of_raw(text, end))
                } else {
                    (Kind::Block, end)
                }
            }
            Some(b'#') => (Kind::Comment, text[start + 2..].find("#}").map_or(text.len(), |found| start + found + 4)),
            _ => {
                at = start + 1;
                continue;
            }
        };
        if text_start < start {
            found.push(Piece { kind: Kind::Text, start: text_start, end: start });
        }
        found.push(Piece { kind, start, end });
        at = end;
        text_start = end;
    }
    if text_start < text.len() {
        found.push(Piece { kind: Kind::Text, start: text_start, end: text.len() });
    }
    found
}

fn memchr_brace(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'{')
}

/// The first byte behind the end of a tag whose inside begins at `from`. Quotes hide the end, and so do open brackets.
fn end_of_tag(bytes: &[u8], from: usize, closing: [u8; 2]) -> usize {
    let mut at = from;
    let mut quote = None;
    let mut depth = 0_usize;
    while at < bytes.len() {
        let byte = bytes[at];
        match quote {
            Some(open) => {
                if byte == b'\\' {
                    at += 1;
                } else if byte == open {
                    quote = None;
                }
            }
            None if depth == 0 && bytes[at..].starts_with(&closing) => return at + 2,
            None => match byte {
                b'\'' | b'"' => quote = Some(byte),
                b'(' | b'[' | b'{' => depth += 1,
                b')' | b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            },
        }
        at += 1;
    }
    bytes.len()
}

fn end_of_raw(text: &str, from: usize) -> usize {
    let mut at = from;
    while let Some(offset) = text[at..].find("{%") {
        let start = at + offset;
        let end = text[start..].find("%}").map_or(text.len(), |found| start + found + 2);
        if first_word(&text[start..end]) == "endraw" {
            return end;
        }
        at = end;
    }
    text.len()
}

/// The first word inside of a tag: `set` of `{%- set x = 1 %}`.
pub(super) fn first_word(tag: &str) -> &str {
    let inside = tag.get(2..).unwrap_or_default().trim_start_matches(['-', '+']).trim_start();
    let end = inside.find(|letter: char| !is_word(letter)).unwrap_or(inside.len());
    &inside[..end]
}

/// Whether a letter may stand in a name.
pub(super) fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Calls `visit` with every word inside of the template's tags, quoted ones among them.
pub(super) fn words<'a>(text: &'a str, mut visit: impl FnMut(&'a str)) {
    for piece in pieces(text) {
        if matches!(piece.kind, Kind::Output | Kind::Block) {
            let inside = &text[piece.start..piece.end];
            inside.split(|letter| !is_word(letter)).filter(|word| !word.is_empty()).for_each(&mut visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(Kind, &str)> {
        pieces(text).into_iter().map(|piece| (piece.kind, &text[piece.start..piece.end])).collect()
    }

    #[test]
    fn tags_end_where_quotes_and_brackets_let_them() {
        assert_eq!(
            kinds("a {{ {'k': {'}}': 1}} }} b{# {{ #}{%- set x = '%}' -%}"),
            [
                (Kind::Text, "a "),
                (Kind::Output, "{{ {'k': {'}}': 1}} }}"),
                (Kind::Text, " b"),
                (Kind::Comment, "{# {{ #}"),
                (Kind::Block, "{%- set x = '%}' -%}"),
            ]
        );
        assert_eq!(kinds("{% raw %}{{ x }}{% endraw %}y")[0], (Kind::Raw, "{% raw %}{{ x }}{% endraw %}"));
        assert_eq!(kinds("{ x {{ open").last(), Some(&(Kind::Output, "{{ open")));
    }

    #[test]
    fn words_are_those_of_tags() {
        let mut found = Vec::new();
        words("select sum(x) {{ a.b('c_d') }} {# e #}", |word| found.push(word));
        assert_eq!(found, ["a", "b", "c_d"]);
    }
}
