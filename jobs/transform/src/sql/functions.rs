//! Functions that warehouses share and our dialect has under another name or form.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArguments, Ident, ObjectName, Value,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::portable::plain_name;

/// Words for units of time, with what they come to.
const UNITS: [(&str, &str); 31] = [
    ("microsecond", "microsecond"),
    ("microseconds", "microsecond"),
    ("millisecond", "millisecond"),
    ("milliseconds", "millisecond"),
    ("ms", "millisecond"),
    ("second", "second"),
    ("seconds", "second"),
    ("ss", "second"),
    ("minute", "minute"),
    ("minutes", "minute"),
    ("mi", "minute"),
    ("hour", "hour"),
    ("hours", "hour"),
    ("hh", "hour"),
    ("day", "day"),
    ("days", "day"),
    ("dd", "day"),
    ("dayofweek", "dow"),
    ("dayofyear", "doy"),
    ("week", "week"),
    ("weeks", "week"),
    ("wk", "week"),
    ("isoweek", "week"),
    ("month", "month"),
    ("months", "month"),
    ("mm", "month"),
    ("quarter", "quarter"),
    ("quarters", "quarter"),
    ("year", "year"),
    ("years", "year"),
    ("yy", "year"),
];

/// A unit in the word that our functions take.
pub(crate) fn unit(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    UNITS.iter().find(|(known, _)| *known == word).map(|(_, unit)| *unit)
}

/// Parses an expression of our own making.
pub(super) fn expression(sql: &str) -> Option<Expr> {
    Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).ok()?.parse_expr().ok()
}

/// Says a call in our dialect: in place where the name alone differs, as another expression otherwise.
pub(super) fn rewrite(function: &mut Function) -> Option<Expr> {
    let name = plain_name(function)?;
    if let Some(moved) = moved_by_interval(function, &name) {
        return Some(moved);
    }
    arrange(function, &name);
    spell_out_path(function, &name);
    if let Some(new) = renamed(&name) {
        function.name = ObjectName::from(vec![Ident::new(new)]);
        return None;
    }
    if name == "to_char" || name == "to_varchar" || name == "to_date" || name == "to_timestamp" {
        chrono_format(function);
    }
    let args = arguments(function)?;
    let texts: Vec<String> = args.iter().map(ToString::to_string).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    if matches!(name.as_str(), "listagg" | "group_concat" | "string_agg") {
        return listagg(function, &texts);
    }
    if name == "count" {
        count_distinct_rows(function, &texts);
        return None;
    }
    if name == "percentile_cont" && function.over.is_some() {
        percentile_over(function);
        return None;
    }
    if function.over.is_some() || function.filter.is_some() {
        return None;
    }
    let sql = match (name.as_str(), texts.as_slice()) {
        ("iff" | "if" | "iif", [condition, yes, no]) => format!("case when {condition} then {yes} else {no} end"),
        ("isnull", [value, otherwise]) => format!("coalesce({value}, {otherwise})"),
        ("zeroifnull", [value]) => format!("coalesce({value}, 0)"),
        ("nullifzero", [value]) => format!("nullif({value}, 0)"),
        ("div0", [above, below]) => format!("case when {below} = 0 then 0 else {above} / {below} end"),
        ("div0null", [above, below]) => format!("coalesce({above} / nullif({below}, 0), 0)"),
        ("safe_divide", [above, below]) => format!("{above} / nullif({below}, 0)"),
        ("countif" | "count_if", [condition]) => format!("count(case when {condition} then 1 end)"),
        ("sumif" | "sum_if", [value, condition]) => format!("sum(case when {condition} then {value} end)"),
        ("charindex" | "position", [part, whole]) | ("instr", [whole, part]) => format!("strpos({whole}, {part})"),
        ("date", [value]) => format!("cast({value} as date)"),
        ("timestamp" | "to_timestamp_ntz" | "to_timestamp_tz" | "datetime", [value]) => {
            format!("cast({value} as timestamp)")
        }
        ("try_to_date", [value]) => format!("try_cast({value} as date)"),
        ("try_to_timestamp" | "try_to_timestamp_ntz", [value]) => format!("try_cast({value} as timestamp)"),
        ("try_to_number" | "try_to_decimal" | "try_to_numeric", [value]) => {
            format!("try_cast({value} as decimal(38, 0))")
        }
        ("try_to_double", [value]) => format!("try_cast({value} as double precision)"),
        ("try_to_boolean", [value]) => format!("try_cast({value} as boolean)"),
        ("to_number" | "to_decimal" | "to_numeric", [value]) => format!("cast({value} as decimal(38, 0))"),
        ("to_double", [value]) => format!("cast({value} as double precision)"),
        ("to_boolean", [value]) => format!("cast({value} as boolean)"),
        ("to_varchar" | "to_char" | "string" | "to_json_string", [value]) => format!("cast({value} as text)"),
        // Weeks that begin with the year's first day.
        ("to_varchar" | "to_char", [value, "'WW'"]) => {
            format!("lpad(cast((date_part('doy', {value}) - 1) / 7 + 1 as text), 2, '0')")
        }
        ("strftime", [value, format]) if value.starts_with('\'') => format!("to_char({format}, {value})"),
        ("strftime" | "to_varchar", [value, format]) => format!("to_char({value}, {format})"),
        ("format_date" | "format_datetime" | "format_timestamp", [format, value]) => {
            format!("to_char({value}, {format})")
        }
        ("parse_date", [format, value]) => format!("to_date({value}, {format})"),
        ("strptime", [value, format]) | ("parse_timestamp" | "parse_datetime", [format, value]) => {
            format!("to_timestamp({value}, {format})")
        }
        ("dayname", [value]) => format!("trim(to_char({value}, '%A'))"),
        ("monthname", [value]) => format!("trim(to_char({value}, '%B'))"),
        ("isodow", [value]) => format!("cast(date_part('isodow', {value}) as bigint)"),
        ("epoch", [value]) => format!("date_part('epoch', {value})"),
        ("epoch_ms", [value]) => format!("cast(date_part('epoch', {value}) * 1000 as bigint)"),
        ("unix_timestamp" | "unix_seconds", [value]) => format!("cast(date_part('epoch', {value}) as bigint)"),
        ("timezone", [zone, value]) => format!("({value}) at time zone {zone}"),
        ("convert_timezone", [to, value]) => format!("local_ts({value}, {to})"),
        ("convert_timezone", [from, to, value]) => format!("local_ts(local_to_utc({value}, {from}), {to})"),
        ("age", [later, earlier]) => format!("({later}) - ({earlier})"),
        ("getdate" | "sysdate" | "systimestamp" | "current_timestamp" | "localtimestamp", []) => "now()".to_owned(),
        ("current_date" | "curdate" | "today", []) => "current_date".to_owned(),
        ("last_day", [value]) => {
            format!("cast(dateadd('day', -1, dateadd('month', 1, date_trunc('month', {value}))) as date)")
        }
        ("last_day", [value, unit]) => {
            format!("cast(dateadd('day', -1, dateadd({unit}, 1, date_trunc({unit}, {value}))) as date)")
        }
        ("parse_json" | "try_parse_json" | "to_json" | "to_variant", [value]) => (*value).to_owned(),
        ("square", [value]) => format!("power({value}, 2)"),
        ("mod", [left, right]) => format!("({left}) % ({right})"),
        (
            "year" | "month" | "day" | "quarter" | "week" | "hour" | "minute" | "second" | "dayofweek" | "dayofyear"
            | "dayofmonth" | "weekofyear" | "weekiso",
            [value],
        ) => {
            let part = match name.as_str() {
                "dayofweek" => "dow",
                "dayofyear" => "doy",
                "dayofmonth" => "day",
                "weekofyear" | "weekiso" => "week",
                part => part,
            };
            format!("cast(date_part('{part}', {value}) as bigint)")
        }
        ("add_months", [value, count]) => format!("dateadd('month', {count}, {value})"),
        ("months_between", [later, earlier]) => format!("datediff('month', {earlier}, {later})"),
        ("decode", [value, rest @ ..]) if rest.len() >= 2 => {
            let mut sql = "case".to_owned();
            for pair in rest.chunks(2) {
                match pair {
                    [wanted, result] => {
                        sql.push_str(&format!(" when {value} is not distinct from {wanted} then {result}"));
                    }
                    [otherwise] => sql.push_str(&format!(" else {otherwise}")),
                    _ => {}
                }
            }
            sql + " end"
        }
        _ => return None,
    };
    expression(&sql)
}

/// Functions that differ in name only.
fn renamed(name: &str) -> Option<&'static str> {
    Some(match name {
        "ifnull" => "nvl",
        "len" => "character_length",
        "array_size" => "array_length",
        "array_construct" | "list_value" | "array_create" => "make_array",
        "list" => "array_agg",
        "boolor_agg" | "logical_or" => "bool_or",
        "booland_agg" | "logical_and" | "every" => "bool_and",
        "first" | "arbitrary" => "first_value",
        "last" => "last_value",
        "variance" => "var_samp",
        "sign" => "signum",
        "gen_random_uuid" | "newid" | "generate_uuid" | "uuid_string" => "uuid",
        "regexp_matches" | "rlike" => "regexp_like",
        "approx_count_distinct" | "hll" => "approx_distinct",
        "startswith" => "starts_with",
        "endswith" => "ends_with",
        "editdistance" => "levenshtein",
        "ucase" => "upper",
        "lcase" => "lower",
        "substring_index" => "substr_index",
        "json_extract_path_text" | "json_extract_string" | "json_extract_scalar" | "json_value" | "get_json_object" => {
            "json_get_text"
        }
        "json_extract_path" | "json_extract" | "json_query" => "json_get",
        "max_by" => "arg_max",
        "min_by" => "arg_min",
        "split" | "str_split" | "string_split" => "string_to_array",
        "timestampadd" | "date_add" | "timestamp_add" => "dateadd",
        "timestampdiff" | "date_diff" | "timestamp_diff" => "datediff",
        "timestamp_trunc" | "datetime_trunc" => "date_trunc",
        "datepart" => "date_part",
        "from_unixtime" | "timestamp_seconds" => "to_timestamp_seconds",
        "timestamp_millis" => "to_timestamp_millis",
        "regexp_extract" => "regexp_substr",
        "ceiling" => "ceil",
        _ => return None,
    })
}

/// Units of time that stand as words become texts, and go where our functions have them: first.
fn arrange(function: &mut Function, name: &str) {
    let units_first = match name {
        "dateadd" | "timestampadd" | "datediff" | "timestampdiff" | "date_trunc" | "date_part" | "datepart" => true,
        "date_diff" | "timestamp_diff" | "date_add" | "timestamp_trunc" | "datetime_trunc" | "last_day" => false,
        _ => return,
    };
    let FunctionArguments::List(list) = &mut function.args else { return };
    let Some(last) = list.args.len().checked_sub(1).filter(|last| *last > 0) else { return };
    // One argument is the unit: a column may be named like another. A text is surely no column.
    let mut places = if units_first { [0, last] } else { [last, 0] };
    let is_text = |place: usize| list.args[place].to_string().starts_with('\'');
    if is_text(places[1]) && !is_text(places[0]) {
        places.reverse();
    }
    let Some((place, word)) = places.into_iter().find_map(|place| Some((place, unit_in(&list.args[place])?))) else {
        return;
    };
    list.args[place] = text_argument(word);
    if place > 0 && name != "last_day" {
        let unit = list.args.remove(place);
        list.args.insert(0, unit);
        // `date_diff(later, earlier, unit)` counts the other way round.
        if !units_first && last == 2 && name.ends_with("diff") {
            list.args.swap(1, 2);
        }
    }
}

/// `date_add(at, interval 1 day)` is `at + interval 1 day`.
fn moved_by_interval(function: &Function, name: &str) -> Option<Expr> {
    let op = match name {
        "date_add" | "datetime_add" | "timestamp_add" | "dateadd" => BinaryOperator::Plus,
        "date_sub" | "datetime_sub" | "timestamp_sub" => BinaryOperator::Minus,
        _ => return None,
    };
    let (left, right) = match arguments(function)?.as_slice() {
        [at, span @ Expr::Interval(_)] => ((*at).clone(), (*span).clone()),
        _ => return None,
    };
    let left = Box::new(Expr::Nested(Box::new(left)));
    Some(Expr::Nested(Box::new(Expr::BinaryOp { left, op, right: Box::new(right) })))
}

/// `count(distinct a, b)` counts rows in which neither is null.
fn count_distinct_rows(function: &mut Function, texts: &[&str]) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    if texts.len() < 2 || list.duplicate_treatment != Some(DuplicateTreatment::Distinct) {
        return;
    }
    let whole = texts.iter().map(|text| format!("({text}) is not null")).collect::<Vec<_>>().join(" and ");
    let row = format!("case when {whole} then struct({}) end", texts.join(", "));
    if let Some(row) = expression(&row) {
        list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(row))];
    }
}

/// `percentile_cont(0.5) within group (order by x) over (…)`: our windows take `percentile_cont(x, 0.5)`.
fn percentile_over(function: &mut Function) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    if let [order] = function.within_group.as_slice()
        && order.options.asc != Some(false)
        && list.args.len() == 1
    {
        list.args.insert(0, FunctionArg::Unnamed(FunctionArgExpr::Expr(order.expr.clone())));
        function.within_group.clear();
    }
}

/// A JSON path, `'$.a[0].b'`, as the keys that our functions take.
pub(super) fn path_keys(path: &str) -> Option<Vec<String>> {
    let mut rest = path.strip_prefix('$')?;
    let mut keys = Vec::new();
    while !rest.is_empty() {
        let (key, after) = if let Some(inner) = rest.strip_prefix('[') {
            let (key, after) = inner.split_once(']')?;
            (key.trim_matches(['\'', '"']), after)
        } else {
            let inner = rest.strip_prefix('.')?;
            match inner.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => inner.split_at(inner.find(['.', '[']).unwrap_or(inner.len())),
            }
        };
        keys.push(key.to_owned());
        rest = after;
    }
    Some(keys)
}

/// `json_extract(x, '$.a.b')` as `json_extract(x, 'a', 'b')`.
fn spell_out_path(function: &mut Function, name: &str) {
    if !(name.starts_with("json_") || name == "get_json_object") {
        return;
    }
    let FunctionArguments::List(list) = &mut function.args else { return };
    let [_, FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(path)))] = list.args.as_slice() else { return };
    let Value::SingleQuotedString(path) = &path.value else { return };
    if let Some(keys) = path_keys(path) {
        list.args.truncate(1);
        list.args.extend(keys.iter().map(|key| text_argument(key)));
    }
}

/// The unit that an argument names, bare or as text.
fn unit_in(argument: &FunctionArg) -> Option<&'static str> {
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) = argument else { return None };
    match expression {
        Expr::Identifier(ident) if ident.quote_style.is_none() => unit(&ident.value),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => unit(text),
            _ => None,
        },
        _ => None,
    }
}

fn text_argument(text: &str) -> FunctionArg {
    FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(Value::SingleQuotedString(text.to_owned()).into())))
}

/// The arguments, when all are plain expressions.
fn arguments(function: &Function) -> Option<Vec<&Expr>> {
    match &function.args {
        FunctionArguments::None => Some(Vec::new()),
        FunctionArguments::List(list) => list
            .args
            .iter()
            .map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
                _ => None,
            })
            .collect(),
        FunctionArguments::Subquery(_) => None,
    }
}

/// `listagg(x, ', ') within group (order by y)` is `string_agg(x, ', ' order by y)`; without a delimiter it is none.
fn listagg(function: &mut Function, texts: &[&str]) -> Option<Expr> {
    function.name = ObjectName::from(vec![Ident::new("string_agg")]);
    let within = std::mem::take(&mut function.within_group);
    let FunctionArguments::List(list) = &mut function.args else { return None };
    if texts.len() == 1 {
        let empty = Expr::Value(Value::SingleQuotedString(String::new()).into());
        list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(empty)));
    }
    if !within.is_empty() {
        list.clauses.push(FunctionArgumentClause::OrderBy(within));
    }
    None
}

/// `to_char(at, 'YYYY-MM')`: our engine takes `%Y-%m`.
fn chrono_format(function: &mut Function) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))) = list.args.get_mut(1) else { return };
    if let Value::SingleQuotedString(format) = &mut value.value
        && !format.contains('%')
    {
        *format = translated(format);
    }
}

fn translated(format: &str) -> String {
    const WORDS: [(&str, &str); 21] = [
        // Fill mode: names without padding, as ours are.
        ("FM", ""),
        ("HH24", "%H"),
        ("HH12", "%I"),
        ("YYYY", "%Y"),
        ("MONTH", "%B"),
        ("Month", "%B"),
        ("month", "%B"),
        ("Mon", "%b"),
        ("MON", "%b"),
        ("Day", "%A"),
        ("DAY", "%A"),
        ("DDD", "%j"),
        ("Dy", "%a"),
        ("DY", "%a"),
        ("YY", "%y"),
        ("MM", "%m"),
        ("MI", "%M"),
        ("DD", "%d"),
        ("SS", "%S"),
        ("IW", "%V"),
        ("AM", "%p"),
    ];
    let mut found = String::new();
    let mut rest = format;
    while let Some(letter) = rest.chars().next() {
        let upper = rest.to_ascii_uppercase();
        let word = WORDS.iter().find(|(word, _)| {
            let shouts = word.chars().all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit());
            rest.starts_with(word) || (word.len() != 3 && shouts && upper.starts_with(word))
        });
        if let Some((word, code)) = word {
            found.push_str(code);
            rest = &rest[word.len()..];
        } else {
            found.push(letter);
            rest = &rest[letter.len_utf8()..];
        }
    }
    found
}
