//! What a YAML file may be before it becomes a tree.

use std::collections::HashMap;
use std::path::Path;

use saphyr_parser::{Event, Parser};

use crate::document::codes;
use crate::error::{Fault, Location};

/// Deepest nesting: that of JSON records, far beyond what a person writes.
const MAX_DEPTH: usize = 128;
/// Values of a file, those that aliases stand for included: a hundred times the largest dbt project known to us.
const MAX_VALUES: usize = 1_000_000;

/// Refuses a text whose tree would be too deep or too large.
///
/// Parsers build, walk and drop such trees by recursion, and an alias becomes a copy of its anchor: a few hundred `- ` would
/// overflow the stack, a few lines of aliases of aliases would fill the memory. This looks at the events alone and does
/// neither. A text that is no YAML passes: its parser tells why.
///
/// # Errors
/// The place where it becomes too much.
pub fn check_size(file: &Path, text: &str) -> Result<(), Fault> {
    // Of each anchor the number of values below it; of each open list or mapping its anchor and the values before it.
    let mut anchors: HashMap<usize, usize> = HashMap::new();
    let mut open: Vec<(usize, usize)> = Vec::new();
    let mut num_values = 0_usize;
    let mut parser = Parser::new_from_str(text);
    while let Some(Ok((event, span))) = parser.next_event() {
        match event {
            Event::Scalar(_, _, anchor, _) => {
                num_values += 1;
                anchors.insert(anchor, 1);
            }
            Event::Alias(anchor) => {
                num_values = num_values.saturating_add(anchors.get(&anchor).copied().unwrap_or(1));
            }
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) => {
                open.push((anchor, num_values));
                num_values += 1;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some((anchor, before)) = open.pop() {
                    anchors.insert(anchor, num_values - before);
                }
            }
            _ => {}
        }
        let message = if open.len() > MAX_DEPTH {
            format!("file is nested too deep, levels=`{MAX_DEPTH}`")
        } else if num_values > MAX_VALUES {
            format!("file holds too many values, aliases written out, values=`{MAX_VALUES}`")
        } else {
            continue;
        };
        let place = Location::new(file, span.start.line(), span.start.col() + 1);
        return Err(Fault::new(message).code(codes::SYNTAX).at(place));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Option<String> {
        check_size(Path::new("x.yml"), text)
            .err()
            .map(|fault| format!("{fault} at {}", fault.location.clone().unwrap()))
    }

    #[test]
    fn what_people_write_passes() {
        assert_eq!(message("a: &x {b: [1, 2]}\nc: *x\n---\n- d\n"), None);
        assert_eq!(message(&"[".repeat(128)), None);
        assert_eq!(message("a: [1\nb: {"), None, "its parser tells what is wrong with it");
    }

    #[test]
    fn nesting_that_would_overflow_the_stack_is_refused() {
        // Found by the fuzzer: 2,000 of `? ` or ` -` ended the process.
        let deep = "file is nested too deep, levels=`128`";
        for open in ["- ", "? "] {
            let message = message(&open.repeat(5_000)).expect(open);
            assert!(message.starts_with(deep), "{message}");
        }
        // Of brackets the parser itself takes 255.
        assert_eq!(message(&"[".repeat(200)).unwrap(), format!("{deep} at x.yml:1:129"));
    }

    #[test]
    fn aliases_of_aliases_are_counted_as_what_they_stand_for() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let inner = format!("*a{}, ", level - 1).repeat(10);
            text.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
        }
        assert!(message(&text).expect("too many").starts_with("file holds too many values"), "a bomb");
    }
}
