//! dbt's `data_type` words as the lake's types.

use super::{ColumnType, TextFormat};

/// The words, for "did you mean".
pub(super) const WORDS: [&str; 33] = [
    "text",
    "varchar",
    "string",
    "char",
    "bigint",
    "int",
    "integer",
    "long",
    "int64",
    "smallint",
    "tinyint",
    "int32",
    "double",
    "float",
    "real",
    "float64",
    "float8",
    "numeric",
    "decimal",
    "number",
    "boolean",
    "bool",
    "date",
    "timestamp",
    "timestamptz",
    "timestamp_ntz",
    "timestamp_tz",
    "datetime",
    "json",
    "jsonb",
    "variant",
    "object",
    "uuid",
];

/// Reads a `data_type`, in any case: `bigint`, `numeric(38, 0)`, `struct<id bigint, tags array<text>>`, `text[]`.
///
/// # Errors
/// A sentence that says what is wrong, without the text itself.
pub(super) fn parse_type(text: &str) -> Result<(ColumnType, Option<TextFormat>), String> {
    if text.trim().eq_ignore_ascii_case("uuid") {
        return Ok((ColumnType::Text, Some(TextFormat::Uuid)));
    }
    let mut parser = Parser { rest: text.trim() };
    let data_type = parser.data_type()?;
    if parser.rest.is_empty() { Ok((data_type, None)) } else { Err(format!("`{}` is left over", parser.rest)) }
}

struct Parser<'t> {
    rest: &'t str,
}

impl<'t> Parser<'t> {
    fn data_type(&mut self) -> Result<ColumnType, String> {
        let word = self.word().to_ascii_lowercase();
        let mut data_type = match word.as_str() {
            "array" | "list" => {
                self.expect('<')?;
                let item = self.data_type()?;
                self.expect('>')?;
                ColumnType::List(Box::new(item))
            }
            "struct" => self.fields()?,
            "numeric" | "decimal" | "number" => self.decimal(&word)?,
            _ => self.plain(&word)?,
        };
        while self.take('[') {
            self.expect(']')?;
            data_type = ColumnType::List(Box::new(data_type));
        }
        Ok(data_type)
    }

    fn plain(&mut self, word: &str) -> Result<ColumnType, String> {
        let data_type = match word {
            "text" | "varchar" | "string" | "char" | "uuid" => ColumnType::Text,
            "bigint" | "int" | "integer" | "long" | "int64" | "smallint" | "tinyint" | "int32" => ColumnType::BigInt,
            "double" | "float" | "real" | "float64" | "float8" => ColumnType::Double,
            "boolean" | "bool" => ColumnType::Boolean,
            "date" => ColumnType::Date,
            "timestamp" | "timestamptz" | "timestamp_ntz" | "timestamp_tz" | "datetime" => ColumnType::Timestamp,
            "json" | "jsonb" | "variant" | "object" => ColumnType::Json,
            "" => return Err("a type is missing".to_owned()),
            _ => return Err(format!("`{word}` is no type")),
        };
        if word == "double" && self.rest.to_ascii_lowercase().starts_with("precision") {
            self.word();
        }
        let arguments = self.arguments()?;
        match (&data_type, arguments.as_slice()) {
            (_, []) | (ColumnType::Timestamp, [0..=6]) => Ok(data_type),
            (ColumnType::Timestamp, _) => Err("the lake keeps microseconds, at most 6 digits".to_owned()),
            (ColumnType::Text, _) => Err("a text has no length here; use `max_bytes`".to_owned()),
            _ => Err(format!("`{word}` takes no arguments")),
        }
    }

    fn decimal(&mut self, word: &str) -> Result<ColumnType, String> {
        let arguments = self.arguments()?;
        let (precision, scale) = match arguments.as_slice() {
            [precision] => (*precision, 0),
            [precision, scale] => (*precision, *scale),
            _ => return Err(format!("write `{word}(precision, scale)`")),
        };
        let fits = (1..=38).contains(&precision) && scale <= precision;
        match (u8::try_from(precision), i8::try_from(scale)) {
            (Ok(precision), Ok(scale)) if fits => Ok(ColumnType::Decimal(precision, scale)),
            _ => Err("precision is 1 to 38, and scale at most the precision".to_owned()),
        }
    }

    fn fields(&mut self) -> Result<ColumnType, String> {
        self.expect('<')?;
        let mut fields: Vec<(String, ColumnType)> = Vec::new();
        loop {
            let name = self.word().to_owned();
            if name.is_empty() {
                return Err("a field name is missing".to_owned());
            }
            if fields.iter().any(|(known, _)| *known == name) {
                return Err(format!("field `{name}` is there twice"));
            }
            self.take(':');
            fields.push((name, self.data_type()?));
            if !self.take(',') {
                self.expect('>')?;
                return Ok(ColumnType::Struct(fields));
            }
        }
    }

    fn arguments(&mut self) -> Result<Vec<u32>, String> {
        let mut arguments = Vec::new();
        if !self.take('(') {
            return Ok(arguments);
        }
        loop {
            arguments.push(self.word().parse().map_err(|_| "a number is missing in the brackets".to_owned())?);
            if !self.take(',') {
                self.expect(')')?;
                return Ok(arguments);
            }
        }
    }

    fn word(&mut self) -> &'t str {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word
    }

    fn take(&mut self, expected: char) -> bool {
        match self.rest.trim_start().strip_prefix(expected) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, expected: char) -> Result<(), String> {
        if self.take(expected) { Ok(()) } else { Err(format!("`{expected}` is missing")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> ColumnType {
        parse_type(text).expect("the text is a type").0
    }

    #[test]
    fn words_of_several_dialects_mean_one_type() {
        for (words, expected) in [
            ("text VARCHAR string", ColumnType::Text),
            ("bigint INT integer long int64 smallint", ColumnType::BigInt),
            ("double float real float64 float8", ColumnType::Double),
            ("boolean BOOL", ColumnType::Boolean),
            ("timestamp timestamptz TIMESTAMP_NTZ datetime timestamp_ntz(6)", ColumnType::Timestamp),
            ("json variant jsonb object", ColumnType::Json),
        ] {
            for word in words.split(' ') {
                assert_eq!(read(word), expected, "{word}");
            }
        }
        assert_eq!(read("double precision"), ColumnType::Double);
        assert_eq!(read("number(38, 0)"), ColumnType::Decimal(38, 0));
        assert_eq!(parse_type("uuid"), Ok((ColumnType::Text, Some(TextFormat::Uuid))));
    }

    #[test]
    fn every_word_is_a_type() {
        for word in WORDS {
            let text =
                if ["numeric", "decimal", "number"].contains(&word) { format!("{word}(9)") } else { word.into() };
            assert!(parse_type(&text).is_ok(), "{word}");
        }
    }

    #[test]
    fn types_nest() {
        let point = ColumnType::Struct(vec![("x".into(), ColumnType::Double), ("y".into(), ColumnType::Double)]);
        assert_eq!(read("struct<x double, y: double>"), point);
        assert_eq!(read("array<struct<x double, y double>>"), ColumnType::List(Box::new(point)));
        assert_eq!(read("text[][]"), ColumnType::List(Box::new(ColumnType::List(Box::new(ColumnType::Text)))));
    }

    #[test]
    fn what_is_no_type_says_why() {
        for (text, why) in [
            ("bigit", "`bigit` is no type"),
            ("", "a type is missing"),
            ("varchar(20)", "a text has no length here; use `max_bytes`"),
            ("numeric", "write `numeric(precision, scale)`"),
            ("numeric(39,0)", "precision is 1 to 38, and scale at most the precision"),
            ("timestamp(9)", "the lake keeps microseconds, at most 6 digits"),
            ("struct<a bigint", "`>` is missing"),
            ("struct<a bigint, a text>", "field `a` is there twice"),
            ("bigint unsigned", "`unsigned` is left over"),
        ] {
            assert_eq!(parse_type(text), Err(why.to_owned()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z<>\\[\\](), :0-9]{0,40}|\\PC{0,20}") {
            let _ = parse_type(&text);
        }
    }
}
