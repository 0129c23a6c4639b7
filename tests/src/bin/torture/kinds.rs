//! Column types and random values of each.

use rand::{Rng as _, RngExt as _, rngs::StdRng};

/// The name of a type in DDL.
pub type Kind = &'static str;

const KINDS: [Kind; 25] = [
    "text",
    "text",
    "int",
    "bigint",
    "numeric",
    "bool",
    "float8",
    "real",
    "timestamptz",
    "timestamp",
    "date",
    "time",
    "interval",
    "uuid",
    "jsonb",
    "json",
    "bytea",
    "int[]",
    "text[]",
    "point",
    "inet",
    "bit varying",
    "int4range",
    "torture.mood",
    "torture.pair",
];

/// Creates the types of schema `torture`.
pub const TYPES: &str = "create type torture.mood as enum ('sad', 'ok', 'über \"happy\"'); create type torture.pair as (x int, y text)";

pub fn any(random: &mut StdRng) -> Kind {
    KINDS[random.random_range(0..KINDS.len())]
}

/// Returns a random expression of the type.
pub fn value(kind: Kind, random: &mut StdRng) -> String {
    if random.random_range(0..8) == 0 {
        return "null".to_owned();
    }
    let n: i64 = random.random_range(-1_000_000..1_000_000);
    let choose = |random: &mut StdRng, all: &[&str]| all[random.random_range(0..all.len())].to_owned();
    match kind {
        "text" => text(random),
        "int" => n.to_string(),
        "bigint" => (n.wrapping_mul(1_234_567_891)).to_string(),
        "numeric" => match random.random_range(0..4) {
            0 => "'NaN'::numeric".to_owned(),
            1 => format!("{n}.{:03}00", random.random_range(0..1000)),
            _ => format!("{n}.5"),
        },
        "bool" => choose(random, &["true", "false"]),
        "float8" | "real" => {
            choose(random, &["0.1", "'-0'", "1e-7", "'Infinity'", "'NaN'", "123456.789", "1e20"])
        }
        "timestamptz" => match random.random_range(0..6) {
            0 => "'infinity'".to_owned(),
            _ => format!("timestamptz '2024-03-31 01:30:00.123456+00' + {n} * interval '1 minute'"),
        },
        "timestamp" => format!("timestamp '2001-01-01' + {n} * interval '1 second'"),
        "date" => format!("date '2000-01-01' + {}", n % 10_000),
        "time" => format!("time '12:00' + {n} * interval '1 second'"),
        "interval" => choose(
            random,
            &["'1 mon 2 days -03:04:05.678'", "'-1 year'", "'00:00'", "'1000 hours'", "'30 days'"],
        ),
        "uuid" => format!("md5('{n}')::uuid"),
        // JSON's null is left out: the text does not show a change from it to SQL's null.
        "jsonb" | "json" => format!(
            "'{}'",
            choose(
                random,
                &[
                    r#"{"b": 1.0, "a": [null, "x\u00e9\n"]}"#,
                    "3",
                    r#""text with \"quotes\"""#,
                    r#"{"v": 5, "v": 6}"#
                ]
            )
        ),
        "bytea" => format!("decode(md5('{n}'), 'hex')"),
        "int[]" => choose(random, &["'{}'", "'{1,NULL,3}'", "'{{1,2},{3,4}}'"]),
        "text[]" => choose(random, &["'{}'", "'{a,NULL,\"b c\"}'", "array['\"', '\\', 'é', '']"]),
        "point" => format!("point({n}, 0.1)"),
        "inet" => choose(random, &["'10.0.0.1'", "'10.0.0.0/8'", "'::1'"]),
        "bit varying" => choose(random, &["b'101'", "b''"]),
        "int4range" => choose(random, &["'empty'", "'[1,5)'", "'(,3]'"]),
        "torture.mood" => choose(random, &["'sad'", "'ok'", "'über \"happy\"'"]),
        "torture.pair" => choose(random, &["row(1, 'a')", "row(null, null)", "row(2, 'q\"x')"]),
        _ => "null".to_owned(),
    }
}

fn text(random: &mut StdRng) -> String {
    match random.random_range(0..12) {
        0 => "''".to_owned(),
        1 => r#"E'line\nbreak\ttab\x01 \\ "q" \u2028'"#.to_owned(),
        2 => "'𝄞 é </script>'".to_owned(),
        // Postgres compresses these or stores them out of line.
        3 => format!("repeat('long {} ', {})", random.next_u32(), random.random_range(200..2_000)),
        4 => format!(
            "(select string_agg(md5(({} + i)::text), '') from generate_series(1, 150) i)",
            random.next_u32()
        ),
        _ => format!("'text {}'", random.random_range(0..100)),
    }
}

/// Returns a random value in COPY's text format, from a subset that each type has.
pub fn copied(kind: Kind, random: &mut StdRng) -> String {
    let n: u32 = random.random_range(0..1000);
    match kind {
        "text" => format!("copied\\t{n} \\\\ é"),
        "int" | "bigint" | "numeric" | "float8" | "real" => n.to_string(),
        "json" | "jsonb" => format!("{{\"copied\": {n}}}"),
        "int[]" => format!("{{{n},NULL}}"),
        _ => "\\N".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    #[test]
    fn every_type_has_values() {
        let mut random = StdRng::seed_from_u64(1);
        for kind in KINDS {
            let values: Vec<_> = (0..50).map(|_| value(kind, &mut random)).collect();
            assert!(values.iter().any(|value| value != "null"), "{kind}");
            assert!(values.iter().any(|value| value == "null"), "{kind}");
        }
    }
}
