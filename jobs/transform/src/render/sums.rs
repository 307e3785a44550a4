//! `+` and `-` between times: found in a template, and reckoned when it runs.

use minijinja::value::{Value, from_args};
use minijinja::{Error, ErrorKind, State};

use super::modules::moved;
use super::scan::{Kind, is_word};
use super::translate::{Insertion, Rank};

/// Adds and subtracts: `__sum(a, '-', b, '+', c)`.
pub(super) const SUM: &str = "__sum";
const SUM_OPEN: &str = "__sum(";

/// Words that end one expression and begin another.
const KEYWORDS: [&str; 9] = ["in", "and", "or", "not", "if", "else", "elif", "is", "recursive"];

/// Whether a template may have to do with times at all; all others are left alone.
pub(super) fn has_times(text: &str) -> bool {
    ["datetime", "timedelta", "run_started_at"].iter().any(|word| text.contains(word))
}

/// What lies between two brackets, as far as it was read.
#[derive(Default)]
struct Level {
    /// Where the sum begins.
    start: Option<usize>,
    /// Behind its last operand.
    end: usize,
    /// Whether an operand stands in front of what comes next.
    has_operand: bool,
    /// The places of its operators, each one byte.
    operators: Vec<usize>,
}

impl Level {
    fn operand(&mut self, start: usize, end: usize) {
        self.start.get_or_insert(start);
        self.end = end;
        self.has_operand = true;
    }

    /// Ends the sum, if it is one.
    fn finish(&mut self, insertions: &mut Vec<Insertion>) {
        let level = std::mem::take(self);
        let Some(start) = level.start.filter(|_| !level.operators.is_empty() && level.has_operand) else { return };
        insertions.push(Insertion { at: start, rank: Rank::SumStart, text: SUM_OPEN });
        for at in level.operators {
            // The operator itself becomes the letter between the quotes.
            insertions.push(Insertion { at, rank: Rank::SumEnd, text: ",'" });
            insertions.push(Insertion { at: at + 1, rank: Rank::SumEnd, text: "'," });
        }
        insertions.push(Insertion { at: level.end, rank: Rank::SumEnd, text: ")" });
    }
}

/// Rewrites the sums of a tag as calls of [`SUM`].
pub(super) fn spell_out(part: &str, kind: Kind, insertions: &mut Vec<Insertion>) {
    let bytes = part.as_bytes();
    let mut at = 2;
    let mut tail = part.len() - if part.len() >= 4 { 2 } else { 0 };
    // Marks for white space are no operators.
    while at < tail && matches!(bytes[at], b'-' | b'+') {
        at += 1;
    }
    if at < tail && matches!(bytes[tail - 1], b'-' | b'+') {
        tail -= 1;
    }
    let mut levels = vec![Level::default()];
    let mut is_first_word = kind == Kind::Block;
    while at < tail {
        let start = at;
        let byte = bytes[at];
        let Some(level) = levels.last_mut() else { return };
        match byte {
            b'\'' | b'"' => {
                at = end_of_text(bytes, at, tail);
                level.operand(start, at);
            }
            b'(' | b'[' | b'{' => {
                level.start.get_or_insert(start);
                levels.push(Level::default());
                at += 1;
            }
            b')' | b']' | b'}' => {
                level.finish(insertions);
                at += 1;
                levels.pop();
                let Some(outer) = levels.last_mut() else { return };
                outer.operand(start, at);
            }
            b'+' | b'-' if level.has_operand => {
                level.operators.push(at);
                level.has_operand = false;
                at += 1;
            }
            // A sign belongs to its operand.
            b'+' | b'-' => {
                level.start.get_or_insert(start);
                at += 1;
            }
            b'.' | b'|' | b'~' | b'*' | b'/' | b'%' => {
                level.has_operand = false;
                at += 1;
            }
            _ if byte.is_ascii_whitespace() => at += 1,
            _ => {
                at += part[at..tail].find(|letter| !is_word(letter)).unwrap_or(tail - at);
                let word = &part[start..at];
                if word.is_empty() {
                    // A comma, a comparison, an assignment.
                    level.finish(insertions);
                    at += part[start..].chars().next().map_or(1, char::len_utf8);
                } else if is_first_word || KEYWORDS.contains(&word) {
                    level.finish(insertions);
                } else {
                    level.operand(start, at);
                }
                is_first_word = false;
            }
        }
    }
    if let [level] = levels.as_mut_slice() {
        level.finish(insertions);
    }
}

/// Behind the quote that ends a text.
fn end_of_text(bytes: &[u8], start: usize, tail: usize) -> usize {
    let mut at = start + 1;
    while at < tail {
        match bytes[at] {
            b'\\' => at += 1,
            byte if byte == bytes[start] => return at + 1,
            _ => {}
        }
        at += 1;
    }
    tail
}

/// Reckons a sum from left to right.
pub(super) fn sum(state: &State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    let (first, rest) = args.split_first().ok_or_else(|| Error::from(ErrorKind::MissingArgument))?;
    let mut total = first.clone();
    for step in rest.chunks(2) {
        let (operator, value): (&str, Value) = from_args(step)?;
        let is_sum = operator == "+";
        total = if let Some(moved) = moved(&total, &value, is_sum) {
            moved?
        } else {
            let expression = if is_sum { "left + right" } else { "left - right" };
            let context = Value::from_pairs([("left", total), ("right", value)]);
            state.env().compile_expression(expression)?.eval(context)?
        };
    }
    Ok(total)
}
