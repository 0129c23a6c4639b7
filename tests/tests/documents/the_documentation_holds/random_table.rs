//! Random tables: types, constraints, and inserts.

use rand::{RngExt as _, rngs::StdRng, seq::IndexedRandom as _};

/// Types for the random tables: definitions, some values of each, and constraints (`%` is the
/// column).
pub const TYPES: &str = r#"
    create type mood as enum ('sad', 'it''s "ok"', 'ünïcode');
    create type address as (street text, number int, since date, spread numeric[], mood mood);
    create domain positive as int not null check (value > 0) check (value < 1000);
    create domain small as positive check (value <= 10);
    create domain share as numeric(5, 2) check (value between 0 and 100);
    create domain word as varchar(8) check (value <> '' and length(value) >= 2);
    create domain words as text[] check (cardinality(value) < 4);
    create collation blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    create type span as range (subtype = int);"#;

struct Kind {
    name: &'static str,
    values: &'static [&'static str],
    checks: &'static [&'static str],
}

const fn kind(name: &'static str, values: &'static [&'static str], checks: &'static [&'static str]) -> Kind {
    Kind { name, values, checks }
}

const KINDS: &[Kind] = &[
    kind("smallint", &["-32768", "32767", "0", "1", "7"], &["% > 0", "% <> 7", "% in (1, 7)"]),
    kind(
        "integer",
        &["-2147483648", "2147483647", "0", "1", "-1", "5", "10"],
        &[
            "% > 0",
            "% >= 0.5",
            "% between -1 and 10",
            "0 <= %",
            "% in (1, 5)",
            "% = 5 or % < 0",
            "% % 5 = 0",
            "% is not null",
            "not % > 5",
        ],
    ),
    kind(
        "bigint",
        &["-9223372036854775808", "9223372036854775807", "9007199254740993", "9007199254740992", "0", "3"],
        &["% > 9007199254740992", "% > 0", "%::numeric <> 3", "%::float8 > 9007199254740992"],
    ),
    kind(
        "numeric",
        &[
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "0.1",
            "0.10000000000000000000000001",
            "1e-400",
            "1e300",
            "-5",
            "12345678901234567890.5",
            "100",
        ],
        &[
            "% > 0",
            "% > 0.1",
            "% < 100",
            "% between 0 and 100",
            "% in (0.1, 100.00)",
            "%::int > 0",
            "%::numeric(5,0) >= 0",
            "% <= 100.0 and % >= -5",
        ],
    ),
    kind(
        "numeric(5,2)",
        &["'NaN'", "999.99", "-999.99", "0.01", "0", "100"],
        &["% > 0", "% >= 0 and % < 100", "% < 999.995", "% <> 0"],
    ),
    kind(
        "numeric(40,3)",
        &["'NaN'", "9999999999999999999999999999999999999.999", "0.001", "-1"],
        &["% > 0", "% > 0.0005"],
    ),
    kind("numeric(3,0)", &["999", "-999", "0", "'NaN'"], &["% <= 999"]),
    kind(
        "real",
        &["'NaN'", "'Infinity'", "0.1", "1e-45", "16777217", "-3.4e38", "0.3"],
        &["% > 0", "% > 0.1", "% > 0.100000001", "% < 16777216", "% >= 0.3::real", "% < 'Infinity'"],
    ),
    kind(
        "double precision",
        &["'NaN'", "'-Infinity'", "0.1", "5e-324", "1.7976931348623157e308", "-0", "100"],
        &["% > 0", "% >= 0.1", "% <= 100", "% = 100", "% > 0.10000000000000000000001", "%::real > 0"],
    ),
    kind("boolean", &["true", "false"], &["%", "% is true"]),
    kind(
        "text",
        &["''", "'a'", "'A'", "'abc'", "E'tab\\t\"\\\\ \\u2028'", "'🚀🚀🚀'", "'ünï'", "repeat('x', 3000)"],
        &[
            "% <> ''",
            "length(%) <= 3",
            "char_length(%) between 1 and 5",
            "% in ('a', 'abc', 'it''s')",
            "% ~ '^a'",
            "% > 'a'",
            "lower(%) = 'a'",
            "% = 'a' and % is not null",
        ],
    ),
    kind("text collate blind", &["'a'", "'A'", "'b'"], &["% = 'a'", "% in ('a', 'c')", "% <> ''"]),
    kind(
        "varchar(4)",
        &["''", "'abcd'", "'🚀🚀🚀🚀'", "'a'"],
        &["length(%) > 0", "% in ('abcd', 'a')", "length(%) = 4"],
    ),
    kind(
        "char(3)",
        &["'a'", "''", "'abc'"],
        &["% in ('a', 'abc')", "length(%) <= 1", "% <> ''", "%::text = 'a'"],
    ),
    kind("\"char\"", &["'a'", "''"], &["% = 'a'"]),
    kind("name", &["'a'", "'ünï'"], &["length(%) < 5"]),
    kind(
        "timestamptz",
        &[
            "now()",
            "'infinity'",
            "'-infinity'",
            "'0044-03-15 12:00 BC'",
            "'294276-12-31'",
            "'1850-01-01'",
            "'2026-11-22 03:38:00.5'",
        ],
        &["% > '2000-01-01'", "isfinite(%)"],
    ),
    kind(
        "timestamp(3)",
        &["now()", "'infinity'", "'4713-01-01 BC'", "'10000-01-01'", "'2026-11-22'"],
        &["% > '2000-01-01'"],
    ),
    kind(
        "date",
        &["'2026-11-22'", "'infinity'", "'-infinity'", "'4713-01-01 BC'", "'5874897-01-01'", "'0001-01-01'"],
        &["% < '2100-01-01'"],
    ),
    kind("time", &["'00:00'", "'24:00'", "'03:38:00.123456'"], &["% > '01:00'"]),
    kind("timetz", &["'00:00+00'", "'12:00:00.5-03:30'", "'12:00+01:02:03'"], &[]),
    kind("interval", &["'1 day'", "'-3 mons 04:05:06.7'", "'0'"], &["% > '0'"]),
    kind("uuid", &["gen_random_uuid()", "'00000000-0000-0000-0000-000000000000'"], &[]),
    kind("bytea", &["'\\x00ff'", "''"], &["octet_length(%) > 0"]),
    kind("bit(3)", &["B'101'"], &[]),
    kind("varbit", &["B''", "B'1'"], &[]),
    kind("inet", &["'::1'", "'10.0.0.0/8'"], &[]),
    kind("money", &["1.5", "-3"], &["%::numeric > 0"]),
    kind("json", &["'null'", "'1'", "'{\"a\" : [1.50]}'", "'\"x\"'"], &["json_typeof(%) = 'object'"]),
    kind("jsonb", &["'null'", "'[]'", "'{\"a\": 1e400}'"], &["% ? 'a'"]),
    kind("xml", &["'<a/>'"], &[]),
    kind("oid", &["1", "4294967295"], &["%::int8 > 0"]),
    kind("regclass", &["'pg_class'"], &[]),
    kind("point", &["'(1,2)'"], &[]),
    kind("int4range", &["'[1,2)'", "'empty'"], &[]),
    kind("span", &["'[1,2)'"], &[]),
    kind("int2vector", &["'1 2'"], &[]),
    kind(
        "integer[]",
        &["'{}'", "'{1,null}'", "'{{1,2},{3,4}}'", "'[2:3]={5,6}'", "'{{{1}}}'"],
        &["cardinality(%) < 3", "1 = any (%)"],
    ),
    kind("text[][]", &["'{a}'", "'{{a,null}}'"], &[]),
    kind("numeric(4,1)[]", &["'{NaN,1.5}'"], &[]),
    kind(
        "mood",
        &["'sad'", "'it''s \"ok\"'", "'ünïcode'"],
        &["% in ('sad', 'ünïcode')", "% <> 'sad'", "%::text = 'sad'", "% > 'sad'"],
    ),
    kind("mood[]", &["'{sad,null}'"], &[]),
    kind(
        "address",
        &[
            "row('s', 1, 'infinity', '{NaN,1}', 'sad')",
            "row(null, null, null, null, null)",
            "row(null, -1, '2020-01-01', '{{1}}', null)",
        ],
        &["(%).number > 0"],
    ),
    kind("address[]", &["array[row('s', 1, null, null, 'sad')::address, null]"], &[]),
    kind("positive", &["1", "999", "(select 1::positive where false)"], &["% > 5", "%::int < 500"]),
    kind("small", &["1", "10", "11"], &["% in (1, 10)"]),
    kind("small[]", &["'{1,10}'"], &[]),
    kind("share", &["0", "100", "99.99", "'NaN'"], &["% > 0", "%::numeric < 100"]),
    kind("word", &["'ab'", "'abcdefgh'", "'a'", "''"], &["% in ('ab', 'abcdefgh')", "length(%) < 5"]),
    kind("words", &["'{a,b}'", "'{a,b,c,d}'"], &[]),
];

/// A random table, and inserts that it may accept or reject.
pub struct Table {
    pub name: String,
    pub create: String,
    pub inserts: Vec<String>,
}

impl Table {
    pub fn random(number: usize, random: &mut StdRng) -> Self {
        let name = format!("t{number}");
        let (mut columns, mut kinds) = (vec!["id bigserial primary key".to_owned()], Vec::new());
        for at in 0..random.random_range(1..7) {
            let kind = KINDS.choose(random).expect("there are some");
            let column =
                if random.random_bool(0.2) { format!("\"Ä {at} \"\"%'\"") } else { format!("c{at}") };
            let mut text = format!("{column} {}", kind.name);
            if random.random_bool(0.3) {
                text.push_str(" not null");
            }
            for check in kind.checks {
                if random.random_bool(0.3) {
                    // `% % 5` is the column and an operator.
                    let check =
                        check.replacen("% % 5", "mod(@, 5)", 1).replace('%', "@").replace('@', &column);
                    text.push_str(&format!(" check ({check})"));
                }
            }
            columns.push(text);
            kinds.push((column, kind));
        }
        let names: Vec<&str> = kinds.iter().map(|(column, _)| column.as_str()).collect();
        let mut inserts = Vec::new();
        for _ in 0..40 {
            let values: Vec<&str> = kinds
                .iter()
                .map(|(_, kind)| match random.random_bool(0.15) {
                    true => "null",
                    false => kind.values.choose(random).expect("there are some"),
                })
                .collect();
            inserts.push(format!("insert into {name} ({}) values ({})", names.join(", "), values.join(", ")));
        }
        Self { create: format!("create table {name} ({})", columns.join(", ")), name, inserts }
    }
}
