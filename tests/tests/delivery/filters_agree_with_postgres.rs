//! Promise: the daemon decides a filter as Postgres does. This compares `path_filter` with
//! `webhook.path_matches` on random documents and random paths.

use e2e::cluster::{Cluster, Database};
use path_filter::{Document, PathFilter, Subject};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::collections::HashSet;

const DOCUMENTS: usize = 250;
const FILTERS: usize = 250;
const ROUNDS: u64 = 4;

/// Names of members, as JSON spells them. Some are spelled in two ways.
const NAMES: [&str; 8] =
    [r#""a""#, r#""b""#, r#""A""#, r#""x y""#, r#""é""#, r#""\u00e9""#, r#""q\"q""#, r#""\u0061""#];

const NUMBERS: [&str; 20] = [
    "0",
    "-0",
    "0.0",
    "1",
    "1.0",
    "1e0",
    "10e-1",
    "100",
    "1E+2",
    "0.1",
    "0.10000000000000000000001",
    "-1.5",
    "2",
    "1e400",
    "1e-400",
    "-1e400",
    "12345678901234567890",
    "12345678901234567890.0",
    "999999999999999999",
    "1000000000000000000",
];

const STRINGS: [&str; 15] = [
    r#""""#,
    r#""a""#,
    r#""b""#,
    r#""ab""#,
    r#""A""#,
    r#""é""#,
    r#""\u00e9""#,
    r#""e\u0301""#,
    r#""😀""#,
    r#""\ud83d\ude00""#,
    r#""\uffff""#,
    r#""1""#,
    r#""true""#,
    r#""a\nb\/\\""#,
    r#""null""#,
];

/// Texts that are json. Postgres cannot make jsonb of some, and the daemon leaves others to it.
const NASTY: [&str; 9] = [
    r#""\u0000""#,
    r#""a\ud800""#,
    r#""\ude00\ud83d""#,
    r#"{"\u0000": 1}"#,
    "1e5000",
    "1e-20000",
    "1e200000",
    r#"{"a": 1, "a": "\u0000", "a": 1}"#,
    "[[[[[[[[[[1]]]]]]]]]]",
];

struct Random(StdRng);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    fn space(&mut self) -> &'static str {
        self.of(&["", "", "", " ", "\n\t "])
    }

    fn json(&mut self, depth: usize) -> String {
        let space = self.space();
        let kind = self.below(if depth == 0 { 5 } else { 9 });
        let text = match kind {
            0 => self.of(&["null", "true", "false"]).to_owned(),
            1 | 2 => self.of(&NUMBERS).to_owned(),
            3 | 4 => self.of(&STRINGS).to_owned(),
            5 | 6 => {
                let elements: Vec<String> = (0..self.below(4)).map(|_| self.json(depth - 1)).collect();
                format!("[{}]", elements.join(","))
            }
            _ => {
                let members: Vec<String> = (0..self.below(6))
                    .map(|_| format!("{}{}:{}", self.of(&NAMES), self.space(), self.json(depth - 1)))
                    .collect();
                format!("{{{}}}", members.join(","))
            }
        };
        format!("{space}{text}{space}")
    }

    fn document(&mut self) -> Row {
        let data = match self.below(20) {
            0 => self.of(&NASTY).to_owned(),
            1 => format!(r#"{{"a": {}, "b": 1}}"#, self.of(&NASTY)),
            _ => self.json(3),
        };
        let mut text =
            |share: usize| (self.below(3) < share).then(|| self.of(&["a", "b", "é", "😀", "1"]).into());
        let (key, table, actor, origin) = (text(2), text(2), text(1), text(1));
        let previous = (self.below(2) == 0).then(|| self.json(2));
        Row { data, previous, key, table, actor, origin, is_truncated: self.below(4) == 0 }
    }

    /// A path that the daemon knows.
    fn path(&mut self, from: &str, depth: usize) -> String {
        let mut path = from.to_owned();
        if from == "$" && self.below(8) > 0 {
            path +=
                self.of(&[".data", ".data", ".data", ".previous", ".type", ".key", ".actor", ".truncated"]);
        }
        for _ in 0..self.below(3) {
            path += &match self.below(10) {
                0 | 1 => "[*]".to_owned(),
                2 if depth > 0 => format!(" ? ({})", self.condition("@", depth - 1)),
                _ => format!(".{}", self.of(&NAMES)),
            };
        }
        path
    }

    fn literal(&mut self) -> String {
        match self.below(5) {
            0 => self.of(&["null", "true", "false"]).to_owned(),
            1 | 2 => self.of(&NUMBERS).to_owned(),
            _ => self.of(&STRINGS).to_owned(),
        }
    }

    fn operand(&mut self, from: &str, depth: usize) -> String {
        match self.below(5) {
            0 => self.literal(),
            _ => self.path(from, depth),
        }
    }

    /// A condition that the daemon knows.
    fn condition(&mut self, from: &str, depth: usize) -> String {
        let from = if self.below(4) == 0 { "$" } else { from };
        let kind = self.below(if depth == 0 { 8 } else { 14 });
        match kind {
            0 => format!("exists({})", self.path(from, depth)),
            1 => format!("{} starts with {}", self.operand(from, depth), self.of(&STRINGS)),
            2 => format!("{} == {}", self.operand(from, depth), self.operand(from, depth)),
            3..8 => {
                let comparison = self.of(&["==", "!=", "<>", "<", "<=", ">", ">="]);
                format!("{} {comparison} {}", self.operand(from, depth), self.literal())
            }
            8 => format!("!({})", self.condition(from, depth - 1)),
            9 => format!("({}) is unknown", self.condition(from, depth - 1)),
            10 => format!("({})", self.condition(from, depth - 1)),
            11 | 12 => format!("{} && {}", self.condition(from, depth - 1), self.condition(from, depth - 1)),
            _ => format!("{} || {}", self.condition(from, depth - 1), self.condition(from, depth - 1)),
        }
    }

    fn filter(&mut self) -> String {
        match self.below(4) {
            0 => self.path("$", 2),
            _ => self.condition("$", 3),
        }
    }

    /// A path that the daemon may not know.
    fn other(&mut self) -> String {
        let path = self.path("$", 1);
        let of = self.of(&[
            "strict PATH == 1",
            "PATH.*",
            "PATH.** == 1",
            "PATH[0] == 1",
            "PATH[last] == 1",
            "PATH.size() > 1",
            "PATH.type() == \"string\"",
            "PATH + 1 == 2",
            "-PATH == -1",
            "PATH like_regex \"^a\"",
            "(PATH == 1).type()",
            "PATH.keyvalue().key == \"a\"",
            "PATH.double() == 1",
        ]);
        of.replace("PATH", &path)
    }
}

struct Row {
    data: String,
    previous: Option<String>,
    key: Option<String>,
    table: Option<String>,
    actor: Option<String>,
    origin: Option<String>,
    is_truncated: bool,
}

impl Row {
    fn subject(&self) -> Subject<'_> {
        Subject {
            event_type: "a",
            key: self.key.as_deref(),
            table_name: self.table.as_deref(),
            actor: self.actor.as_deref(),
            origin: self.origin.as_deref(),
            truncated: self.is_truncated,
            data: self.data.as_bytes(),
            previous: self.previous.as_deref().map(str::as_bytes),
        }
    }
}

/// Returns each filter as Postgres prints it.
async fn printed(database: &Database, filters: &[String]) -> Vec<String> {
    let session = database.client().await;
    let print = "select path::jsonpath::text from unnest($1::text[]) with ordinality f (path, n) order by n";
    let rows =
        session.query(print, &[&filters]).await.unwrap_or_else(|error| panic!("{error:?}: {filters:#?}"));
    rows.iter().map(|row| row.get(0)).collect()
}

/// Returns the pairs of filter and document that match in Postgres, by their places.
async fn matching(database: &Database, filters: &[String], rows: &[Row]) -> HashSet<(usize, usize)> {
    let column = |of: fn(&Row) -> Option<&str>| rows.iter().map(of).collect::<Vec<_>>();
    let (data, previous) = (column(|row| Some(row.data.as_str())), column(|row| row.previous.as_deref()));
    let (key, table) = (column(|row| row.key.as_deref()), column(|row| row.table.as_deref()));
    let (actor, origin) = (column(|row| row.actor.as_deref()), column(|row| row.origin.as_deref()));
    let truncated: Vec<bool> = rows.iter().map(|row| row.is_truncated).collect();
    let statement = "
        with f as materialized (
                 select path::jsonpath, n from unnest($1::text[]) with ordinality f (path, n)),
             d as materialized (
                 select data::json, previous::json, key, table_name, actor, origin, truncated, n
                 from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::boolean[])
                      with ordinality d (data, previous, key, table_name, actor, origin, truncated, n))
        select f.n, d.n from f, d
        where webhook.path_matches(f.path, 'a', d.key, d.table_name, d.actor, d.origin, d.truncated, d.data, d.previous)";
    let session = database.client().await;
    let rows = session
        .query(statement, &[&filters, &data, &previous, &key, &table, &actor, &origin, &truncated])
        .await
        .expect("Postgres evaluates every pair");
    let place = |n: i64| usize::try_from(n - 1).expect("an ordinal");
    rows.iter().map(|row| (place(row.get(0)), place(row.get(1)))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_random_documents_and_paths() {
    let cluster = Cluster::start_with(&[]).await;
    let database = cluster.database("app").await;
    for seed in 0..ROUNDS {
        let mut random = Random(StdRng::seed_from_u64(seed));
        let rows: Vec<Row> = (0..DOCUMENTS).map(|_| random.document()).collect();
        let known: Vec<String> = (0..FILTERS).map(|_| random.filter()).collect();
        let mut filters = known.clone();
        filters.extend((0..FILTERS / 10).map(|_| random.other()));
        let printed = printed(&database, &filters).await;
        let matching = matching(&database, &printed, &rows).await;
        let documents: Vec<Document<'_>> = rows.iter().map(|row| Document::new(row.subject())).collect();
        let (mut decided, mut left, mut matched) = (0, 0, 0);
        for (at, text) in printed.iter().enumerate() {
            let Some(filter) = PathFilter::parse(text) else {
                assert!(at >= known.len(), "not parsed: {text}");
                continue;
            };
            for (row_at, document) in documents.iter().enumerate() {
                let Some(is_match) = filter.matches(document) else {
                    left += 1;
                    continue;
                };
                decided += 1;
                matched += usize::from(is_match);
                let wanted = matching.contains(&(at, row_at));
                assert_eq!(is_match, wanted, "seed {seed}: {text} on {:?}", rows[row_at].subject_text());
            }
        }
        assert!(left * 10 < decided, "seed {seed}: Postgres must decide {left}, the daemon {decided}");
        assert!(matched * 20 > decided, "seed {seed}: of {decided}, only {matched} match");
    }
}

impl Row {
    fn subject_text(&self) -> String {
        let Self { data, previous, key, table, actor, origin, is_truncated } = self;
        format!("{data} previous {previous:?} {key:?} {table:?} {actor:?} {origin:?} {is_truncated}")
    }
}
