//! From real inputs to wrong ones.

use tidemill_tests::seed::Seeded;

/// Words that are odd in several of the languages at once.
const COMMON: &[&str] = &[
    "",
    "\0",
    "\u{feff}",
    "\r\n",
    "\t",
    "é",
    "\u{1f980}",
    "\"",
    "'",
    "`",
    "\\",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    ",",
    ":",
    "-1",
    "0",
    "18446744073709551616",
    "9223372036854775807",
    "-9223372036854775809",
    "1e999",
    "-0.0",
    "NaN",
    "null",
    "true",
    "1970-01-01T00:00:00Z",
    "9999-12-31T23:59:60Z",
    "Europe/Berlin",
];

/// Changes `bytes` in one to five places: cut, doubled, moved, other bytes, words of the language, a piece of another input,
/// something nested or repeated hundreds of times.
pub(crate) fn mutate(random: &mut Seeded, bytes: &[u8], others: &[&[u8]], words: &[&str]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(5) {
        let at = random.index(bytes.len() + 1);
        let end = at + random.index((bytes.len() - at).min(64) + 1);
        match random.below(12) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let piece = bytes[at..end].to_vec();
                let to = random.index(bytes.len() + 1);
                drop(bytes.splice(to..to, piece));
            }
            3 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            4 if at < bytes.len() => bytes[at] = u8::try_from(random.below(256)).expect("a byte"),
            5 => swap_lines(random, &mut bytes),
            6 if !others.is_empty() => {
                let other = *random.pick(others);
                let from = random.index(other.len() + 1);
                let to = from + random.index((other.len() - from).min(200) + 1);
                drop(bytes.splice(at..end, other[from..to].iter().copied()));
            }
            7 => {
                // Deep or long: parsers recurse.
                let word = word(random, words).to_vec();
                let times = 1 + random.index(3_000);
                drop(bytes.splice(at..at, word.repeat(times.min(60_000 / word.len().max(1)))));
            }
            8 => replace_number(random, &mut bytes),
            _ => drop(bytes.splice(at..end, word(random, words).iter().copied())),
        }
        bytes.truncate(200_000);
    }
    bytes
}

fn word<'a>(random: &mut Seeded, words: &[&'a str]) -> &'a [u8] {
    let from = if random.below(3) == 0 || words.is_empty() { COMMON } else { words };
    random.pick(from).as_bytes()
}

fn swap_lines(random: &mut Seeded, bytes: &mut Vec<u8>) {
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let (one, other) = (random.index(lines.len()), random.index(lines.len()));
    lines.swap(one, other);
    *bytes = lines.join(&b'\n');
}

fn replace_number(random: &mut Seeded, bytes: &mut Vec<u8>) {
    let digits: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at].is_ascii_digit()).collect();
    if digits.is_empty() {
        return;
    }
    let from = *random.pick(&digits);
    let to = (from..bytes.len()).find(|at| !bytes[*at].is_ascii_digit()).unwrap_or(bytes.len());
    let number = *random.pick(&[
        "0",
        "-1",
        "1",
        "255",
        "65536",
        "4294967296",
        "9223372036854775808",
        "1e400",
        "00",
        "0x10",
        "1_0",
    ]);
    drop(bytes.splice(from..to, number.bytes()));
}
