//! Rewrites templates into what our Jinja engine takes, line by line the same.
//!
//! dbt's Jinja runs on Python, whose lists and mappings can be changed in place (`{% do names.append(x) %}`). Ours are values.
//! So every list or mapping that a template spells out is handed to a function that makes it changeable. Times are added and
//! subtracted in Python by `+` and `-`, which ours does for numbers alone. `{% do %}` takes any expression there, and only
//! a call here. And names that a node's template prints are held to have a value.

use super::scan::{Kind, Piece, first_word, is_word, pieces};
use super::sums;

/// Makes a list changeable.
pub(super) const LIST: &str = "__list";
/// Makes a mapping changeable.
pub(super) const DICT: &str = "__dict";
const LIST_OPEN: &str = "__list(";
const DICT_OPEN: &str = "__dict(";

/// Hands a printed name through when it has a value.
pub(super) const GIVEN: &str = "__given";

/// A rewritten template and the way back from its bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Translated {
    pub(super) text: String,
    /// Positions in `text` behind which `added` bytes in all are ours.
    edits: Vec<(usize, usize)>,
}

impl Translated {
    /// The byte of the original that stands at a byte of the translation.
    pub(super) fn original(&self, at: usize) -> usize {
        let edits = self.edits.partition_point(|(position, _)| *position <= at);
        at - edits.checked_sub(1).map_or(0, |last| self.edits[last].1)
    }

    fn add(&mut self, ours: &str) {
        let before = self.edits.last().map_or(0, |(_, added)| *added);
        self.text.push_str(ours);
        self.edits.push((self.text.len(), before + ours.len()));
    }
}

/// Rewrites the text of a macro file. A name that nothing gives a value prints as nothing there, as dbt's does: packages set
/// a name in one branch and print it behind both.
pub(super) fn translate(text: &str) -> Translated {
    rewrite(text, &pieces(text), |_| false)
}

/// Rewrites the template of a node. A name that is printed must have a value, unless some branch of the template sets it.
pub(super) fn translate_template(text: &str) -> Translated {
    let pieces = pieces(text);
    let is_set = |name: &str| {
        pieces.iter().filter(|piece| piece.kind == Kind::Block).any(|piece| {
            let part = &text[piece.start..piece.end];
            let names = part.split(" in ").next().and_then(|part| part.split('=').next()).unwrap_or_default();
            SETTERS.contains(&first_word(part)) && names.split(|letter| !is_word(letter)).any(|word| word == name)
        })
    };
    rewrite(text, &pieces, |name| !is_set(name))
}

fn rewrite(text: &str, pieces: &[Piece], must_be_given: impl Fn(&str) -> bool) -> Translated {
    let mut translated = Translated { text: String::with_capacity(text.len() + 64), edits: Vec::new() };
    let has_times = sums::has_times(text);
    for piece in pieces.iter().copied() {
        let part = &text[piece.start..piece.end];
        if piece.kind == Kind::Output
            && let Some(name) = printed_name(part).filter(|name| must_be_given(name))
        {
            let start = part.find(name).unwrap_or_default();
            translated.text.push_str(&part[..start]);
            translated.add(&format!("{GIVEN}("));
            translated.text.push_str(name);
            translated.add(")");
            translated.text.push_str(&part[start + name.len()..]);
        } else if matches!(piece.kind, Kind::Output | Kind::Block) {
            let mut insertions = Vec::new();
            if part[2..].contains(['[', '{']) {
                make_changeable(part, &mut insertions);
            }
            if has_times {
                sums::spell_out(part, piece.kind, &mut insertions);
            }
            if piece.kind == Kind::Block && first_word(part) == "do" && has_condition(part) {
                make_assignment(part, &mut insertions);
            }
            insert(part, insertions, &mut translated);
        } else {
            translated.text.push_str(part);
        }
    }
    translated
}

/// The name in `{{ name }}`.
fn printed_name(output: &str) -> Option<&str> {
    let inner = output.strip_prefix("{{")?.strip_suffix("}}")?;
    let name = inner.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
    (name.starts_with(|letter: char| letter.is_alphabetic() || letter == '_') && name.chars().all(is_word))
        .then_some(name)
}

/// Tags that give names a value.
const SETTERS: [&str; 4] = ["set", "for", "with", "macro"];

/// Keywords behind which a bracket opens a list and no subscript.
const KEYWORDS: [&str; 9] = ["in", "and", "or", "not", "if", "else", "elif", "is", "return"];

/// Text of ours and the byte in front of which it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Insertion {
    pub(super) at: usize,
    pub(super) rank: Rank,
    pub(super) text: &'static str,
}

/// What goes first where several go to one place: what ends before what begins, the inner before the outer that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Behind a list or mapping.
    ListEnd,
    /// Behind a sum, or around its operators.
    SumEnd,
    /// In front of a sum.
    SumStart,
    /// In front of a list or mapping.
    ListStart,
}

fn insert(part: &str, mut insertions: Vec<Insertion>, translated: &mut Translated) {
    insertions.sort_unstable();
    let mut from = 0;
    for insertion in insertions {
        translated.text.push_str(&part[from..insertion.at]);
        translated.add(insertion.text);
        from = insertion.at;
    }
    translated.text.push_str(&part[from..]);
}

/// Whether the expression of a `do` is `x if y`, or `x if y else z`.
fn has_condition(part: &str) -> bool {
    part.split(|letter| !is_word(letter)).any(|word| word == "if")
}

/// `{% do x if y %}` as `{% set do= x if y %}`: nobody reads a variable of that name.
fn make_assignment(part: &str, insertions: &mut Vec<Insertion>) {
    if let Some(at) = part.find("do") {
        insertions.push(Insertion { at, rank: Rank::SumEnd, text: "set " });
        insertions.push(Insertion { at: at + 2, rank: Rank::ListEnd, text: "=" });
    }
}

fn make_changeable(part: &str, insertions: &mut Vec<Insertion>) {
    // The tag's own braces.
    let (inside, tail) = (2, part.len() - if part.len() >= 4 { 2 } else { 0 });
    let mut open: Vec<bool> = Vec::new();
    let mut quote = None;
    let mut skip = false;
    let mut word_start = None;
    let mut before = ' ';
    let mut word = "";
    for (index, letter) in part[inside..tail].char_indices().map(|(index, letter)| (index + inside, letter)) {
        if let Some(opening) = quote {
            if skip {
                skip = false;
            } else if letter == '\\' {
                skip = true;
            } else if letter == opening {
                quote = None;
                before = letter;
            }
            continue;
        }
        if is_word(letter) {
            word_start.get_or_insert(index);
            before = letter;
            continue;
        }
        if let Some(start) = word_start.take() {
            word = &part[start..index];
        }
        let is_value = is_word(before) && !KEYWORDS.contains(&word) || matches!(before, ')' | ']' | '}' | '\'' | '"');
        match letter {
            '\'' | '"' => quote = Some(letter),
            '[' | '{' if !is_value => {
                let text = if letter == '[' { LIST_OPEN } else { DICT_OPEN };
                insertions.push(Insertion { at: index, rank: Rank::ListStart, text });
                open.push(true);
            }
            '[' | '{' => open.push(false),
            _ => {}
        }
        if matches!(letter, ']' | '}') && open.pop() == Some(true) {
            insertions.push(Insertion { at: index + 1, rank: Rank::ListEnd, text: ")" });
        }
        if !letter.is_whitespace() {
            before = letter;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_mappings_become_changeable_and_subscripts_do_not() {
        let text = "[a] {% set x = [1, {'k': y[0]}] %}{{ f(x)[1]['[' ~ z] if 1 in [1] }}";
        let translated = translate(text);
        assert_eq!(
            translated.text,
            "[a] {% set x = __list([1, __dict({'k': y[0]})]) %}{{ f(x)[1]['[' ~ z] if 1 in __list([1]) }}"
        );
        for needle in ["y[0]", "f(x)", "~ z", "1 in"] {
            assert_eq!(translated.original(translated.text.find(needle).unwrap()), text.find(needle).unwrap());
        }
    }

    #[test]
    fn names_that_a_template_prints_must_be_given_unless_it_sets_them() {
        let text =
            "{{ a }}{{- b -}}{% if a %}{% set b = 1 %}{% endif %}{{ a.b }}{{ a() }}{% for c in a %}{{ c }}{% endfor %}";
        let translated = translate_template(text);
        assert_eq!(translated.text, text.replacen("{{ a }}", "{{ __given(a) }}", 1));
        assert_eq!(translated.original(translated.text.find("a) }}").unwrap()), text.find("a }}").unwrap());
        assert_eq!(translate(text).text, text);
    }

    #[test]
    fn sums_of_times_are_calls_and_others_stay() {
        let text = "{%- set a = (run_started_at - modules.datetime.timedelta(days=-1)).date() -%}{{ a[1] + [b - 1] }}{{ x-1 if -y }}";
        let translated = translate(text);
        assert_eq!(
            translated.text,
            "{%- set a = (__sum(run_started_at ,'-', modules.datetime.timedelta(days=-1))).date() -%}\
             {{ __sum(a[1] ,'+', __list([__sum(b ,'-', 1)])) }}{{ __sum(x,'-',1) if -y }}"
        );
        assert_eq!(translated.original(translated.text.find("b ,").unwrap()), text.find("b - 1").unwrap());
        let plain = "{{ a - 1 }}{% if x -%}{%- endif %}";
        assert_eq!(translate(plain).text, plain);
    }

    #[test]
    fn a_do_with_a_condition_is_an_assignment() {
        assert_eq!(
            translate("{% do a.append(1) if b else c.append({'d': 2}) %}").text,
            "{% set do= a.append(1) if b else c.append(__dict({'d': 2})) %}"
        );
        assert_eq!(translate("{% do a.append(1) %}").text, "{% do a.append(1) %}");
    }

    #[test]
    fn a_template_without_literals_stays_as_it_is() {
        let text = "select {{ column }}[1] {% raw %}{{ [1] }}{% endraw %}{# [2] #}";
        assert_eq!(translate(text).text, text);
    }
}
