//! From JSON text to tokens: one pass over the bytes, nothing converted yet.
//!
//! The scanner knows which paths the contract reads. Each of them has a slot; a slot ends up with the *last* value that the
//! record gives for its path, as a span of the payload. What no path wants is copied, key and value as they stand in the
//! record, into the text of `_extra`.
//!
//! Producers send their fields in one order, record after record. So the scanner remembers for each field which one
//! followed it the last time and compares names only once as a rule; a record in another order costs a search through the
//! object's names, never a hash table.

use jiter::{Jiter, JiterErrorType, JiterResult, JsonErrorType, Peek};
use tidemill_project::contract::OnExtra;

use super::extra::Extra;
use super::flat;
use super::paths::{Entry, Paths};

/// Arrays and objects may nest this deep, the record's own object included. The same limit as serde_json's, so whatever
/// lands can be parsed again by others.
pub(crate) const MAX_DEPTH: usize = 128;

/// A piece of the payload, or of the decoded texts: `[start, end)` in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Span {
    /// The text that the span marks.
    #[inline]
    pub(crate) fn of(self, text: &str) -> &str {
        &text[self.start..self.end]
    }

    #[inline]
    pub(crate) fn len(self) -> usize {
        self.end - self.start
    }
}

/// A JSON value, told apart but not converted. Spans cover the value as it stands in the payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Token {
    /// The record does not have the path.
    #[default]
    Absent,
    Null,
    Bool(bool),
    Number(Span),
    /// `NaN`, `Infinity` or `-Infinity`, or an array or object that contains one.
    NotFinite,
    /// A string without escapes: the span lies between its quotes.
    Text(Span),
    /// A string with escapes: the span lies in [`Scanner::decoded`], the second one is the value in the payload.
    Decoded(Span, Span),
    Array(Span),
    Object(Span),
}

/// Why a payload is no JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    Utf8 {
        at: usize,
    },
    Json {
        error: String,
        at: usize,
    },
    NoObject,
    TooDeep,
    /// Bytes that are not of their schema.
    Avro {
        what: &'static str,
        at: usize,
    },
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Utf8 { at } => write!(f, "not UTF-8 at byte {at}"),
            Self::Json { error, at } => write!(f, "not JSON at byte {at}: {error}"),
            Self::NoObject => f.write_str("not a JSON object"),
            Self::Avro { what, at } => write!(f, "not Avro of its schema at byte {at}: {what}"),
            Self::TooDeep => write!(f, "nested deeper than {MAX_DEPTH} levels"),
        }
    }
}

/// Tokens of one record, and the buffers that outlive it.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    /// One token per slot of the contract's [`Paths`].
    pub(crate) tokens: Vec<Token>,
    /// Strings whose escapes had to be resolved, one after the other.
    pub(crate) decoded: String,
    /// Fields that no path wants.
    pub(crate) extra: Extra,
    /// Objects that paths lead through and that are something else: entries of [`Paths`].
    pub(crate) blocked: Vec<usize>,
    /// Fields that hold an enum symbol which the contract's schema does not have (Avro).
    pub(crate) unknown_symbols: Vec<String>,
    /// Per entry (and per object, for its first field): the entry that followed the last time.
    pub(super) followers: Vec<usize>,
    /// Records in a row that were not flat.
    not_flat: u32,
    tape: Vec<u8>,
}

/// After this many records that were not flat the next ones are not expected to be …
const MISSES: u32 = 16;
/// … but for one in so many, in case the producers have changed.
const TRIES: u32 = 64;

impl Scanner {
    /// A scanner that does as the contract says with fields it does not know.
    pub(crate) fn new(on_extra: OnExtra) -> Self {
        Self { extra: Extra::new(on_extra), ..Self::default() }
    }

    /// Reads one payload. Afterwards `tokens`, `decoded`, `extra` and `blocked` belong to it.
    ///
    /// NaN and infinities, which are no JSON, are told apart from other rubbish: their fields get
    /// [`Token::NotFinite`], so that one bad measurement is reported as such.
    pub(crate) fn scan(&mut self, paths: &Paths, payload: &str) -> Result<(), Malformed> {
        if paths.may_be_flat() && (self.not_flat < MISSES || self.not_flat.is_multiple_of(TRIES)) {
            self.clear(paths);
            if flat::scan(self, paths, payload) {
                self.not_flat = 0;
                return Ok(());
            }
        }
        self.not_flat = self.not_flat.wrapping_add(1);
        self.parse(paths, payload)
    }

    /// Reads one payload of whatever form.
    pub(super) fn parse(&mut self, paths: &Paths, payload: &str) -> Result<(), Malformed> {
        match self.scan_once(paths, payload, false) {
            Err(error @ Malformed::Json { .. }) if payload.contains("NaN") || payload.contains("Infinity") => {
                self.scan_once(paths, payload, true).map_err(|_| error)
            }
            outcome => outcome,
        }
    }

    /// Forgets the record before.
    pub(super) fn clear(&mut self, paths: &Paths) {
        self.tokens.clear();
        self.tokens.resize(paths.num_slots(), Token::Absent);
        self.followers.resize(paths.num_followers(), 0);
        self.decoded.clear();
        self.extra.clear();
        self.blocked.clear();
        self.unknown_symbols.clear();
    }

    #[inline]
    pub(super) fn put(&mut self, slot: Option<usize>, token: Token) {
        if let Some(slot) = slot {
            self.tokens[slot] = token;
        }
    }

    fn scan_once(&mut self, paths: &Paths, payload: &str, allow_not_finite: bool) -> Result<(), Malformed> {
        self.clear(paths);
        let mut jiter = Jiter::with_tape(payload.as_bytes(), std::mem::take(&mut self.tape));
        if allow_not_finite {
            jiter = jiter.with_allow_inf_nan();
        }
        let outcome = self.scan_record(paths, payload, &mut jiter, allow_not_finite);
        self.tape = jiter.into_tape();
        outcome
    }

    fn scan_record(
        &mut self,
        paths: &Paths,
        payload: &str,
        jiter: &mut Jiter<'_>,
        allow_not_finite: bool,
    ) -> Result<(), Malformed> {
        let is_object = jiter.peek().map_err(malformed)? == Peek::Object;
        if !is_object {
            // `[]` and `7` are JSON, `{}}` and `nul` are not; the message tells the two apart.
            jiter.next_skip().and_then(|()| jiter.finish()).map_err(malformed)?;
            return Err(Malformed::NoObject);
        }
        let mut pass = Pass { paths, payload, allow_not_finite };
        pass.object(self, jiter, Paths::ROOT, 1)?;
        jiter.finish().map_err(malformed)
    }
}

/// One pass over one payload.
struct Pass<'p> {
    paths: &'p Paths,
    payload: &'p str,
    allow_not_finite: bool,
}

impl Pass<'_> {
    /// Reads the object that comes next, whose fields are the entries of `object`; `depth` counts it.
    fn object(&mut self, s: &mut Scanner, jiter: &mut Jiter<'_>, object: usize, depth: usize) -> Result<(), Malformed> {
        let level = s.extra.open();
        let mut previous = self.paths.first_follower(object);
        let mut before = jiter.current_index();
        let mut found = match jiter.known_object().map_err(malformed)? {
            Some(key) => Some(find(self.paths, &mut s.followers, object, &mut previous, key)),
            None => None,
        };
        while let Some(entry) = found {
            if let Some(entry) = entry {
                self.known(s, jiter, entry, depth)?;
            } else {
                let key = self.key_before(before, jiter.current_index());
                let value = self.skip(jiter, depth)?;
                if self.holds_not_finite(value) {
                    s.extra.add_not_finite(key.of(self.payload));
                } else {
                    s.extra.add(self.payload, key, value);
                }
            }
            before = jiter.current_index();
            found = match jiter.next_key().map_err(malformed)? {
                Some(key) => Some(find(self.paths, &mut s.followers, object, &mut previous, key)),
                None => None,
            };
        }
        s.extra.close(level);
        Ok(())
    }

    /// Reads the value of a field that the contract knows.
    #[inline]
    fn known(&mut self, s: &mut Scanner, jiter: &mut Jiter<'_>, entry: usize, depth: usize) -> Result<(), Malformed> {
        let Entry { slot, child, .. } = *self.paths.entry(entry);
        let peek = jiter.peek().map_err(malformed)?;
        if let Some(child) = child {
            self.paths.forget(child, &mut s.tokens);
            s.blocked.retain(|blocked| *blocked != entry);
            if peek == Peek::Object {
                if depth == MAX_DEPTH {
                    return Err(Malformed::TooDeep);
                }
                let start = jiter.current_index();
                let parent = s.extra.enter(&self.paths.entry(entry).name);
                self.object(s, jiter, child, depth + 1)?;
                s.extra.leave(&self.paths.entry(entry).name, parent);
                if let Some(slot) = slot {
                    let span = Span { start, end: jiter.current_index() };
                    s.tokens[slot] = if self.holds_not_finite(span) { Token::NotFinite } else { Token::Object(span) };
                }
                return Ok(());
            }
            s.extra.forget(&self.paths.entry(entry).name);
            if slot.is_none() && peek != Peek::Null {
                s.blocked.push(entry);
            }
        }
        self.value(s, jiter, slot, peek, depth)
    }

    /// Reads a value and puts its token into `slot`. Tokens are written in place: handed back through a result they would be
    /// copied twice, which shows.
    #[inline]
    fn value(
        &mut self,
        s: &mut Scanner,
        jiter: &mut Jiter<'_>,
        slot: Option<usize>,
        peek: Peek,
        depth: usize,
    ) -> Result<(), Malformed> {
        let start = jiter.current_index();
        match peek {
            Peek::String => {
                let text = jiter.known_str().map_err(malformed)?;
                if let Some(span) = position(self.payload, text) {
                    s.put(slot, Token::Text(span));
                } else {
                    let from = s.decoded.len();
                    s.decoded.push_str(text);
                    let value = Span { start, end: jiter.current_index() };
                    s.put(slot, Token::Decoded(Span { start: from, end: s.decoded.len() }, value));
                }
            }
            Peek::Null => {
                jiter.known_null().map_err(malformed)?;
                s.put(slot, Token::Null);
            }
            Peek::True | Peek::False => s.put(slot, Token::Bool(jiter.known_bool(peek).map_err(malformed)?)),
            Peek::Array | Peek::Object => {
                let span = self.skip(jiter, depth)?;
                let token = if peek == Peek::Array { Token::Array(span) } else { Token::Object(span) };
                s.put(slot, if self.holds_not_finite(span) { Token::NotFinite } else { token });
            }
            _ => {
                jiter.known_number_bytes(peek).map_err(malformed)?;
                let span = Span { start, end: jiter.current_index() };
                s.put(slot, if self.holds_not_finite(span) { Token::NotFinite } else { Token::Number(span) });
            }
        }
        Ok(())
    }

    /// Checks the value that comes next and moves over it.
    fn skip(&self, jiter: &mut Jiter<'_>, depth: usize) -> Result<Span, Malformed> {
        let peek = jiter.peek().map_err(malformed)?;
        let start = jiter.current_index();
        jiter.known_skip(peek).map_err(malformed)?;
        let span = Span { start, end: jiter.current_index() };
        // A level takes two bytes at least, so most values need not be looked at.
        if span.len() > 2 * (MAX_DEPTH - depth) && depth + nesting(span.of(self.payload)) > MAX_DEPTH {
            return Err(Malformed::TooDeep);
        }
        Ok(span)
    }

    /// Whether a value that the lenient pass accepted is no JSON.
    fn holds_not_finite(&self, value: Span) -> bool {
        self.allow_not_finite && {
            let mut strict = Jiter::new(value.of(self.payload).as_bytes());
            strict.next_skip().and_then(|()| strict.finish()).is_err()
        }
    }

    /// The key that lies in `[from, to)` together with comma, blanks and colon: the span between its quotes.
    fn key_before(&self, from: usize, to: usize) -> Span {
        let around = &self.payload.as_bytes()[from..to];
        let open = memchr::memchr(b'"', around).map_or(0, |at| at + 1);
        let close = memchr::memrchr(b'"', around).unwrap_or(open);
        Span { start: from + open, end: from + close.max(open) }
    }
}

/// Finds the entry of `key` in `object`: first where it stood the last time, then everywhere.
#[inline]
pub(super) fn find(
    paths: &Paths,
    followers: &mut [usize],
    object: usize,
    previous: &mut usize,
    key: &str,
) -> Option<usize> {
    let guess = followers[*previous];
    let found = paths.find(object, guess, key)?;
    followers[*previous] = found;
    *previous = paths.follower_of(found);
    Some(found)
}

/// Where `text` lies in `payload`; `None` when the parser had to resolve escapes and points to its own buffer.
#[inline]
fn position(payload: &str, text: &str) -> Option<Span> {
    let start = text.as_ptr().addr().checked_sub(payload.as_ptr().addr())?;
    let end = start.checked_add(text.len())?;
    // Within a payload a string is followed by its quote, so a buffer that happens to begin behind it is told apart.
    (end < payload.len()).then_some(Span { start, end })
}

/// How deep arrays and objects nest in a valid JSON value.
fn nesting(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn malformed(error: jiter::JiterError) -> Malformed {
    match error.error_type {
        JiterErrorType::JsonError(JsonErrorType::RecursionLimitExceeded) => Malformed::TooDeep,
        JiterErrorType::JsonError(kind) => Malformed::Json { error: kind.to_string(), at: error.index },
        // The scanner looks before it reads, so the parser never expects another type than there is.
        kind @ JiterErrorType::WrongType { .. } => Malformed::Json { error: kind.to_string(), at: error.index },
    }
}

/// The fields of a JSON object inside a value: key and token, in order; used for struct columns.
pub(crate) fn fields_of(
    json: &str,
    decoded: &mut String,
    mut each: impl FnMut(&str, Token, &mut String),
) -> JiterResult<()> {
    let mut jiter = Jiter::new(json.as_bytes());
    jiter.peek()?;
    let mut key = jiter.known_object()?.map(str::to_owned);
    while let Some(name) = key {
        let token = value_token(&mut jiter, json, decoded)?;
        each(&name, token, decoded);
        key = jiter.next_key()?.map(str::to_owned);
    }
    Ok(())
}

/// The elements of a JSON array inside a value, in order; used for list columns.
pub(crate) fn elements_of(
    json: &str,
    decoded: &mut String,
    mut each: impl FnMut(Token, &mut String),
) -> JiterResult<()> {
    let mut jiter = Jiter::new(json.as_bytes());
    jiter.peek()?;
    let mut next = jiter.known_array()?;
    while next.is_some() {
        let token = value_token(&mut jiter, json, decoded)?;
        each(token, decoded);
        next = jiter.array_step()?;
    }
    Ok(())
}

fn value_token(jiter: &mut Jiter<'_>, json: &str, decoded: &mut String) -> JiterResult<Token> {
    let peek = jiter.peek()?;
    let start = jiter.current_index();
    if peek == Peek::String {
        let text = jiter.known_str()?;
        if let Some(span) = position(json, text) {
            return Ok(Token::Text(span));
        }
        let from = decoded.len();
        decoded.push_str(text);
        let value = Span { start, end: jiter.current_index() };
        return Ok(Token::Decoded(Span { start: from, end: decoded.len() }, value));
    }
    jiter.known_skip(peek)?;
    let span = Span { start, end: jiter.current_index() };
    Ok(match peek {
        Peek::Null => Token::Null,
        Peek::True => Token::Bool(true),
        Peek::False => Token::Bool(false),
        Peek::Array => Token::Array(span),
        Peek::Object => Token::Object(span),
        _ => Token::Number(span),
    })
}
