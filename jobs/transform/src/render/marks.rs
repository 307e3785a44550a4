//! From a place in compiled SQL back to the template.
//!
//! On the way to a fault the template is rendered once more, with marks in its text: each says which byte of the template
//! follows. Marks travel through macros' callers, `{% set %}` blocks and filters as any text does, and are taken out of the
//! result again. When that is not, letter by letter, the SQL that failed, nothing is said: a filter has looked at a mark.

use super::scan::{Kind, pieces};

/// Opens a mark; a letter of the private use area, which no SQL holds.
const OPEN: char = '\u{E000}';
/// Closes it.
const CLOSE: char = '\u{E001}';

/// The template with marks: one where text begins, one where a tag begins.
pub(super) fn mark(text: &str) -> String {
    let pieces = pieces(text);
    let mut marked = String::with_capacity(text.len() * 2);
    for (index, piece) in pieces.iter().enumerate() {
        let part = &text[piece.start..piece.end];
        if piece.kind != Kind::Text {
            marked.push_str(part);
            continue;
        }
        let neighbour =
            |index: Option<usize>| index.and_then(|index| pieces.get(index)).map(|piece| &text[piece.start..piece.end]);
        // Spacing that a tag's `-` eats must stay beside the tag.
        let before = neighbour(index.checked_sub(1)).unwrap_or_default();
        let after = neighbour(Some(index + 1)).unwrap_or_default();
        let from = if before[..before.len().saturating_sub(2)].ends_with('-') {
            part.len() - part.trim_start().len()
        } else {
            0
        };
        let to =
            if after.get(2..).is_some_and(|rest| rest.starts_with('-')) { part.trim_end().len() } else { part.len() };
        if from >= to {
            marked.push_str(part);
            continue;
        }
        marked.push_str(&part[..from]);
        marked.push_str(&format!("{OPEN}t{}{CLOSE}", piece.start + from));
        marked.push_str(&part[from..to]);
        if !after.is_empty() {
            marked.push_str(&format!("{OPEN}v{}{CLOSE}", piece.end));
        }
        marked.push_str(&part[to..]);
    }
    marked
}

/// A rendered text without its marks, and which bytes of the template its bytes come from.
#[derive(Debug, Default)]
pub(super) struct Unmarked {
    pub(super) text: String,
    /// Byte of the text, byte of the template, whether what follows stands in the template letter by letter.
    runs: Vec<(usize, usize, bool)>,
}

impl Unmarked {
    /// The byte of the template behind a byte of the text: of the letter itself, or of the tag that gave it.
    pub(super) fn origin(&self, at: usize) -> Option<usize> {
        let last = self.runs.partition_point(|(start, ..)| *start <= at).checked_sub(1)?;
        let (start, origin, literal) = self.runs[last];
        Some(if literal { origin + (at - start) } else { origin })
    }
}

/// Takes the marks out.
pub(super) fn unmark(rendered: &str) -> Unmarked {
    let mut found = Unmarked::default();
    let mut rest = rendered;
    while let Some(open) = rest.find(OPEN) {
        found.text.push_str(&rest[..open]);
        let inside = &rest[open + OPEN.len_utf8()..];
        let Some(close) = inside.find(CLOSE) else { break };
        if let (Some(kind), Some(Ok(origin))) = (inside.chars().next(), inside.get(1..close).map(str::parse)) {
            found.runs.push((found.text.len(), origin, kind == 't'));
        }
        rest = &inside[close + CLOSE.len_utf8()..];
    }
    found.text.push_str(rest);
    found
}

/// The byte of a line and column, both from 1; columns count letters.
pub(super) fn byte_at(text: &str, line: usize, column: usize) -> Option<usize> {
    let start: usize = text.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
    let within = text.get(start..)?;
    let offset = within.char_indices().nth(column.checked_sub(1)?).map_or(within.len(), |(offset, _)| offset);
    Some(start + offset)
}

/// Line and column of a byte, both from 1.
pub(super) fn place_at(text: &str, byte: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(byte.min(text.len()))];
    let line = before.matches('\n').count() + 1;
    (line, before.rsplit('\n').next().unwrap_or_default().chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_lead_back_to_the_template() {
        let text = "select a,\n  {{ f() -}}  , zz\nfrom {%- if x %} t{% endif %}";
        // As if rendered: tags gone, one of them giving `b`.
        let rendered = mark(text).replace("{{ f() -}}  ", "b").replace("{%- if x %}", "").replace("{% endif %}", "");
        let found = unmark(&rendered);
        assert_eq!(found.text, "select a,\n  b, zz\nfrom  t");
        let place = |needle: &str| place_at(text, found.origin(found.text.find(needle).unwrap()).unwrap());
        assert_eq!(place("a,"), (1, 8));
        assert_eq!(place("b,"), (2, 3));
        assert_eq!(place("zz"), (2, 17));
        assert_eq!(place("t\u{0}".trim_end_matches('\u{0}')), (1, 6));
        assert_eq!(byte_at(text, 2, 3), text.find("{{"));
    }
}
