//! Promise: every block of `docs/MIGRATING.md` runs as it is printed, and while a writer does not pause, the change over loses
//! nothing and tells nothing twice. The senders of old are small stand-ins of the same shape; the receivers are written after
//! the documentation of Supabase and Hasura, and take both.

use e2e::{
    PATIENCE,
    cluster::{Cluster, Database, describe},
    daemon::{Daemon, binary},
    process::lock,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_postgres::{AsyncMessage, Client, NoTls};

const PAGE: &str = include_str!("../../docs/MIGRATING.md");

// ── The page ────────────────────────────────────────────────────────────────────────────────────────────────────

#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    section: String,
    step: String,
    language: String,
    text: String,
}

fn blocks() -> Vec<Block> {
    let (mut section, mut step) = (String::new(), String::new());
    let mut open: Option<Block> = None;
    let mut blocks = Vec::new();
    for line in PAGE.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                let language = language.to_owned();
                open = Some(Block {
                    section: section.clone(),
                    step: step.clone(),
                    language,
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, None) => {
                if let Some(text) = line.strip_prefix("## ") {
                    text.clone_into(&mut section);
                    step.clear();
                } else if let Some(text) = line.strip_prefix("### ") {
                    text.clone_into(&mut step);
                }
            }
        }
    }
    assert_eq!(open, None, "every block ends");
    blocks
}

/// A guide that is being followed: its blocks, in any order, each at least once.
struct Guide {
    blocks: Vec<Block>,
    database: Database,
    receiver: String,
    followed: BTreeSet<String>,
}

impl Guide {
    fn new(section: &str, database: &Database, receiver: &Collector) -> Self {
        let blocks: Vec<Block> = blocks().into_iter().filter(|block| block.section == section).collect();
        assert!(!blocks.is_empty(), "there is a guide {section}");
        Self { blocks, database: database.clone(), receiver: receiver.url.clone(), followed: BTreeSet::new() }
    }

    /// Runs a step as it is printed, but for the receiver's address; what it has to say.
    fn follow(&mut self, step: &str) -> String {
        self.attempt(step).unwrap_or_else(|error| panic!("{step}: {error}"))
    }

    fn attempt(&mut self, step: &str) -> Result<String, String> {
        let block = self.blocks.iter().find(|block| block.step == step);
        let block = block.unwrap_or_else(|| panic!("no block under {step}")).clone();
        let text = block.text.replace("https://crm.example.com/hooks", &self.receiver);
        let mut command = match block.language.as_str() {
            "sql" => {
                let mut psql = self.database.cluster.program("psql");
                psql.args([
                    "-X",
                    "-q",
                    "-A",
                    "-t",
                    "-v",
                    "ON_ERROR_STOP=1",
                    "-d",
                    &self.database.url(),
                    "-c",
                    &text,
                ]);
                psql
            }
            "sh" => {
                let mut shell = Command::new("bash");
                shell.args(["-euo", "pipefail", "-c", &text]);
                shell
                    .env("HASURA_URL", self.receiver.trim_end_matches("/hooks"))
                    .env("HASURA_ADMIN_SECRET", "admin");
                shell
            }
            other => panic!("{step}: what is {other}?"),
        };
        let output = command.stdin(Stdio::null()).output().expect("it can be started");
        if !output.status.success() {
            return Err(format!("{}\n{text}", String::from_utf8_lossy(&output.stderr)));
        }
        self.followed.insert(block.step);
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// A step that takes a lock: if it is kept waiting, nothing has happened, and it is run again.
    fn change_over(&mut self, step: &str) {
        for _ in 0..10 {
            match self.attempt(step) {
                Ok(_) => return,
                Err(error) if error.contains("lock timeout") => {}
                Err(error) => panic!("{step}: {error}"),
            }
        }
        panic!("{step}: never got the lock");
    }

    /// Runs a step until it says what it should.
    async fn until(&mut self, step: &str, is_enough: impl Fn(&str) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut pace = tokio::time::interval(Duration::from_millis(50));
        loop {
            pace.tick().await;
            let said = self.follow(step);
            if is_enough(&said) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{step}: {said}");
        }
    }

    /// No block has been passed over.
    fn end(self) {
        let missed: Vec<&Block> =
            self.blocks.iter().filter(|block| !self.followed.contains(&block.step)).collect();
        assert!(missed.is_empty(), "{missed:#?}");
        let steps: BTreeSet<&String> = self.blocks.iter().map(|block| &block.step).collect();
        assert_eq!(steps.len(), self.blocks.len(), "one block a step: no other is run");
    }
}

#[test]
fn there_are_three_guides() {
    let sections: BTreeSet<String> = blocks().into_iter().map(|block| block.section).collect();
    let wanted = [
        "From Hasura event triggers",
        "From Supabase Database Webhooks, or pg_net",
        "From a trigger of your own with NOTIFY",
    ];
    assert_eq!(sections.iter().map(String::as_str).collect::<Vec<_>>(), wanted, "and each has a test");
}

// ── A receiver that checks nothing but what its sender promised ─────────────────────────────────────────────────

#[derive(Debug, Clone)]
struct Request {
    path: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Request {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Whether it comes from webhookd.
    fn is_ours(&self) -> bool {
        self.headers.contains_key("webhook-id")
    }
}

/// Takes every POST, and remembers it.
struct Collector {
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    count: watch::Receiver<usize>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hooks", listener.local_addr().expect("it is bound"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (counter, count) = watch::channel(0);
        let (counter, kept) = (Arc::new(counter), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&kept), Arc::clone(&counter)));
            }
        });
        Self { url, requests, count }
    }

    fn all(&self) -> Vec<Request> {
        lock(&self.requests).clone()
    }

    async fn wait(&self, what: &str, enough: impl Fn(&[Request]) -> bool) {
        let requests = Arc::clone(&self.requests);
        let mut count = self.count.clone();
        let waited = tokio::time::timeout(PATIENCE, count.wait_for(|_| enough(&lock(&requests)))).await;
        if waited.is_err() {
            let all = self.all();
            panic!(
                "{what}: {} requests, {} of webhookd's; the last: {:?}",
                all.len(),
                all.iter().filter(|one| one.is_ours()).count(),
                all.last()
            );
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    requests: Arc<Mutex<Vec<Request>>>,
    counter: Arc<watch::Sender<usize>>,
) {
    let mut bytes = Vec::new();
    while let Some((request, used)) = read(&mut stream, &mut bytes).await {
        bytes.drain(..used);
        let count = {
            let mut requests = lock(&requests);
            requests.push(request);
            requests.len()
        };
        counter.send_replace(count);
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.is_err() {
            return;
        }
    }
}

/// A request, and how many bytes it took.
async fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<(Request, usize)> {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; 40];
        let mut head = httparse::Request::new(&mut fields);
        if let Ok(httparse::Status::Complete(at)) = head.parse(bytes) {
            let headers: BTreeMap<String, String> = head
                .headers
                .iter()
                .map(|field| (field.name.to_lowercase(), String::from_utf8_lossy(field.value).into_owned()))
                .collect();
            let length: usize = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
            if let Some(body) = bytes.get(at..at + length) {
                let (path, body) =
                    (head.path.unwrap_or_default().to_owned(), String::from_utf8_lossy(body).into_owned());
                return Some((Request { path, headers, body }, at + length));
            }
        }
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
}

// ── The application ─────────────────────────────────────────────────────────────────────────────────────────────

const ORDERS: &str = "
    create table orders (id bigint primary key, customer text not null, total numeric not null default 0, note text);
    create role shop_app login; grant insert, update, delete, select on orders to shop_app";

/// Writes without a pause, each change a transaction, until it is told to stop; several at once.
struct Writers {
    rounds: watch::Receiver<i64>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Writers {
    /// `statements` of an order: `$1` is its number.
    async fn start(database: &Database, statements: &'static [&'static str]) -> Self {
        let (counter, rounds) = watch::channel(0);
        let (counter, stop) = (Arc::new(counter), Arc::new(AtomicBool::new(false)));
        let mut tasks = Vec::new();
        for writer in 0..3_i64 {
            let client = database.try_client("shop_app").await.expect("the application can connect");
            let (counter, stop) = (Arc::clone(&counter), Arc::clone(&stop));
            tasks.push(tokio::spawn(async move {
                let mut id = writer;
                while !stop.load(Ordering::Relaxed) {
                    id += 3;
                    for statement in statements {
                        let result = client.execute(*statement, &[&id]).await;
                        result
                            .unwrap_or_else(|error| panic!("the application notices: {}", describe(&error)));
                    }
                    counter.send_modify(|count| *count += 1);
                }
            }));
        }
        Self { rounds, stop, tasks }
    }

    /// Waits until so many more orders have been written.
    async fn more(&mut self, orders: i64) {
        let from = *self.rounds.borrow();
        let waited =
            tokio::time::timeout(PATIENCE, self.rounds.wait_for(|count| *count >= from + orders)).await;
        waited.expect("the writers go on").expect("they are there");
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no writer fails");
        }
    }
}

/// Both senders have been at work, and together they have told each change exactly once.
fn each_once(
    requests: &[Request],
    told: impl Fn(&Request) -> (String, i64),
    written: &BTreeSet<(String, i64)>,
) {
    let mut all = BTreeSet::new();
    let mut ours = 0;
    for request in requests {
        let change = told(request);
        assert!(
            all.insert(change.clone()),
            "{change:?} is told twice, now by {}",
            if request.is_ours() { "webhookd" } else { "the old sender" }
        );
        ours += usize::from(request.is_ours());
    }
    let lost: Vec<_> = written.difference(&all).take(5).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert_eq!(all.len(), written.len(), "nothing is told that has not happened");
    assert!(ours >= 20 && requests.len() - ours >= 20, "{ours} of {} are webhookd's", requests.len());
}

/// What has been written, by a table of its own that a trigger fills: the judge's own book.
const BOOK: &str = "
    create table book (op text not null, id bigint not null);
    grant insert on book to shop_app;
    create function note() returns trigger language plpgsql as $$
    begin
        insert into public.book values (tg_op, case when tg_op = 'DELETE' then old.id else new.id end);
        return null;
    end $$;
    create trigger note after insert or update or delete on orders for each row execute function note()";

async fn written(database: &Database, operations: &str) -> BTreeSet<(String, i64)> {
    let client = database.client().await;
    let query = format!("select op, id from book where op = any ('{operations}')");
    client.query(&query, &[]).await.expect("the book").iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// The names of an object's members.
fn names(value: &Value) -> Vec<&str> {
    value.as_object().map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default()
}

const COLUMNS: [&str; 4] = ["customer", "id", "note", "total"];

/// A POST, as the senders of old make it.
async fn post(url: &str, headers: &[(&str, &str)], body: String) {
    let client = reqwest::Client::new();
    let mut request = client.post(url).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.expect("the receiver answers");
    assert!(answer.status().is_success());
}

async fn started() -> (Database, Collector, Daemon) {
    let cluster = Cluster::start().await;
    let database = cluster.database("app").await;
    database.run(ORDERS).await;
    database.run(BOOK).await;
    let daemon = Daemon::start(&database).await;
    (database, Collector::start().await, daemon)
}

const WRITES: &[&str] = &[
    "insert into orders values ($1, 'Zoë', 1.50, 'a')",
    "update orders set total = 2.50, note = null where id = $1",
    "delete from orders where id = $1",
];

// ── Supabase ────────────────────────────────────────────────────────────────────────────────────────────────────

/// What pg_net and Supabase have, as far as the trigger sees of it: a queue, and a function that fills it.
const SUPABASE: &str = r#"
    create schema net;
    create table net.http_request_queue (id bigint generated always as identity, url text, headers jsonb, body text);
    create function net.http_post(url text, body jsonb, params jsonb, headers jsonb, timeout_milliseconds int) returns bigint
        language sql as 'insert into net.http_request_queue (url, headers, body) values (url, headers, body::text) returning id';
    create schema supabase_functions;
    create function supabase_functions.http_request() returns trigger language plpgsql security definer as $$
    begin
        perform net.http_post(tg_argv[0], jsonb_build_object('type', tg_op, 'table', tg_table_name, 'schema', tg_table_schema,
                                                             'record', new, 'old_record', old),
                              tg_argv[3]::jsonb, tg_argv[2]::jsonb, tg_argv[4]::int);
        return null;
    end $$;"#;

/// pg_net's worker: sends what is queued.
async fn pg_net(client: Client) {
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    loop {
        pace.tick().await;
        let taken = client
            .query("delete from net.http_request_queue where id in (select id from net.http_request_queue order by id limit 20)
                    returning url, headers ->> 'Authorization', body", &[])
            .await
            .expect("the queue can be read");
        for row in taken {
            let (url, authorization, body): (String, String, String) = (row.get(0), row.get(1), row.get(2));
            post(&url, &[("content-type", "application/json"), ("authorization", &authorization)], body)
                .await;
        }
    }
}

/// The types of Supabase's documentation: InsertPayload, UpdatePayload, DeletePayload.
fn supabase_receiver(request: &Request) -> (String, i64) {
    assert_eq!(request.headers["authorization"], "Bearer let-me-in");
    assert_eq!(request.headers["content-type"], "application/json");
    let payload = request.json();
    assert_eq!(names(&payload), ["old_record", "record", "schema", "table", "type"]);
    assert_eq!((&payload["schema"], &payload["table"]), (&json!("public"), &json!("orders")));
    let (new, old) = (&payload["record"], &payload["old_record"]);
    let (before, after) = (json!({ "note": "a", "total": 1.5 }), json!({ "note": null, "total": 2.5 }));
    let has = |row: &Value, values: &Value| {
        assert_eq!(names(row), COLUMNS);
        assert_eq!(
            (&row["note"], &row["total"], &row["customer"]),
            (&values["note"], &values["total"], &json!("Zoë"))
        );
    };
    let row = match payload["type"].as_str().expect("a type") {
        "INSERT" => {
            assert!(old.is_null());
            has(new, &before);
            new
        }
        "UPDATE" => {
            has(old, &before);
            has(new, &after);
            new
        }
        "DELETE" => {
            assert!(new.is_null());
            has(old, &after);
            old
        }
        other => panic!("{other}"),
    };
    (payload["type"].as_str().expect("a type").to_owned(), row["id"].as_i64().expect("an id"))
}

#[tokio::test(flavor = "multi_thread")]
async fn from_supabase() {
    let (database, receiver, _daemon) = started().await;
    database.run(SUPABASE).await;
    let trigger = r#"create trigger order_webhook after insert or update or delete on public.orders for each row execute function
        supabase_functions.http_request('URL', 'POST', '{"Content-Type":"application/json","Authorization":"Bearer let-me-in"}', '{}', '5000')"#;
    database.run(&trigger.replace("URL", &receiver.url)).await;
    let worker = tokio::spawn(pg_net(database.client().await));
    let mut writers = Writers::start(&database, WRITES).await;
    receiver.wait("the old sender is at work", |all| all.len() > 30).await;

    let mut guide = Guide::new("From Supabase Database Webhooks, or pg_net", &database, &receiver);
    let seen = guide.follow("1. See what there is");
    assert!(seen.contains("order_webhook") && seen.contains(&receiver.url), "{seen}");
    let subscribed = guide.follow("2. Subscribe");
    assert!(subscribed.contains("whsec_"), "{subscribed}");
    writers.more(20).await;
    assert!(!receiver.all().iter().any(Request::is_ours), "a subscription alone changes nothing");
    guide.change_over("3. Change over");
    writers.more(20).await;
    guide.until("4. Let pg_net finish", |said| said == "0").await;
    receiver.wait("both are at work", |all| all.iter().filter(|one| one.is_ours()).count() > 30).await;
    guide.until("5. Look", |said| said.contains("delivered|")).await;

    // And back, with the same promise.
    guide.change_over("Going back");
    writers.more(20).await;
    writers.stop().await;
    let all = written(&database, "{INSERT,UPDATE,DELETE}").await;
    receiver.wait("everything", |requests| requests.len() >= all.len()).await;
    database
        .until("select not exists (select from webhook.delivery where state <> 'delivered')", PATIENCE)
        .await;
    each_once(&receiver.all(), supabase_receiver, &all);
    worker.abort();
    guide.end();
}

// ── Hasura ──────────────────────────────────────────────────────────────────────────────────────────────────────

/// Hasura's log, and the triggers of an event trigger `order_changed`.
const HASURA: &str = r#"
    create schema hdb_catalog;
    grant usage on schema hdb_catalog to shop_app;
    create table hdb_catalog.event_log (
        id text default gen_random_uuid() primary key, schema_name text not null, table_name text not null, trigger_name text not null,
        payload jsonb not null, delivered boolean not null default false, error boolean not null default false,
        tries integer not null default 0, created_at timestamp default now(), locked timestamptz, next_retry_at timestamp,
        archived boolean not null default false);
    grant insert on hdb_catalog.event_log to shop_app;
    create function hdb_catalog.tell(op text, old json, new json) returns void language sql as $$
        insert into hdb_catalog.event_log (schema_name, table_name, trigger_name, payload)
        values ('public', 'orders', 'order_changed', jsonb_build_object('op', op, 'data', json_build_object('old', old, 'new', new),
                'session_variables', nullif(current_setting('hasura.user', true), '')::json, 'trace_context', null)) $$;
    do $do$
    declare
        op text;
    begin
        foreach op in array '{INSERT,UPDATE,DELETE}'::text[] loop
            execute format('create function hdb_catalog.%I() returns trigger language plpgsql as $$ begin
                perform hdb_catalog.tell(tg_op, case when tg_op <> ''INSERT'' then row_to_json(old) end,
                                                case when tg_op <> ''DELETE'' then row_to_json(new) end);
                return null; end $$', 'notify_hasura_order_changed_' || op);
            execute format('create trigger %I after %s on public.orders for each row execute function hdb_catalog.%1$I()',
                           'notify_hasura_order_changed_' || op, op);
        end loop;
    end $do$;"#;

/// The engine's thread: fetches events, locks them, sends them, and marks them.
async fn hasura(client: Client, url: String) {
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    loop {
        pace.tick().await;
        let fetched = client
            .query("update hdb_catalog.event_log set locked = now() where id in (
                        select id from hdb_catalog.event_log where not delivered and not error and not archived and locked is null limit 20)
                    returning id, json_build_object('event', payload, 'created_at', created_at, 'id', id,
                        'delivery_info', json_build_object('max_retries', 0, 'current_retry', tries),
                        'trigger', json_build_object('name', trigger_name),
                        'table', json_build_object('schema', schema_name, 'name', table_name))::text", &[])
            .await
            .expect("the log can be read");
        for row in fetched {
            let (id, body): (String, String) = (row.get(0), row.get(1));
            post(&url, &[("content-type", "application/json"), ("x-action-secret", "let-me-in")], body).await;
            let done = "update hdb_catalog.event_log set delivered = true, locked = null, tries = tries + 1 where id = $1";
            client.execute(done, &[&id]).await.expect("it can be marked");
        }
    }
}

/// The payload of Hasura's documentation.
fn hasura_receiver(request: &Request) -> (String, i64) {
    assert_eq!(request.headers["x-action-secret"], "let-me-in");
    assert_eq!(request.headers["content-type"], "application/json");
    let payload = request.json();
    assert_eq!(names(&payload), ["created_at", "delivery_info", "event", "id", "table", "trigger"]);
    assert_eq!(payload["delivery_info"], json!({ "max_retries": 0, "current_retry": 0 }));
    assert_eq!(payload["trigger"], json!({ "name": "order_changed" }));
    assert_eq!(payload["table"], json!({ "schema": "public", "name": "orders" }));
    let id = payload["id"].as_str().expect("an id");
    assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "a UUID");
    assert!(payload["created_at"].as_str().is_some_and(|at| at.starts_with("20") && at.contains('T')));
    let event = &payload["event"];
    assert_eq!(names(event), ["data", "op", "session_variables", "trace_context"]);
    assert!(event["session_variables"].is_null() && event["trace_context"].is_null());
    let (new, old) = (&event["data"]["new"], &event["data"]["old"]);
    let total = |row: &Value| (names(row) == COLUMNS).then(|| row["total"].as_f64()).flatten();
    let (op, row) = match event["op"].as_str().expect("an operation") {
        "INSERT" => {
            assert_eq!((total(new), old.is_null()), (Some(1.5), true));
            ("INSERT", new)
        }
        "UPDATE" => {
            assert_eq!((total(new), total(old), &old["note"]), (Some(2.5), Some(1.5), &json!("a")));
            ("UPDATE", new)
        }
        "DELETE" => {
            assert_eq!((new.is_null(), total(old)), (true, Some(2.5)));
            ("DELETE", old)
        }
        other => panic!("{other}"),
    };
    (op.to_owned(), row["id"].as_i64().expect("an id"))
}

#[tokio::test(flavor = "multi_thread")]
async fn from_hasura() {
    let (database, receiver, _daemon) = started().await;
    database.run(HASURA).await;
    let engine = tokio::spawn(hasura(database.client().await, receiver.url.clone()));
    let mut writers = Writers::start(&database, WRITES).await;
    receiver.wait("the old sender is at work", |all| all.len() > 30).await;

    let mut guide = Guide::new("From Hasura event triggers", &database, &receiver);
    let seen = guide.follow("1. See what there is");
    assert_eq!(
        seen.lines().filter(|line| line.starts_with("orders|notify_hasura_order_changed_")).count(),
        3,
        "{seen}"
    );
    assert!(guide.follow("2. Subscribe").contains("whsec_"));
    writers.more(20).await;
    assert!(!receiver.all().iter().any(Request::is_ours), "a subscription alone changes nothing");
    guide.change_over("3. Change over");
    writers.more(20).await;
    guide.until("4. Let Hasura finish", |said| said == "0").await;
    receiver.wait("both are at work", |all| all.iter().filter(|one| one.is_ours()).count() > 30).await;
    writers.stop().await;
    let all = written(&database, "{INSERT,UPDATE,DELETE}").await;
    receiver.wait("everything", |requests| requests.len() >= all.len()).await;
    database
        .until("select not exists (select from webhook.delivery where state <> 'delivered')", PATIENCE)
        .await;
    each_once(&receiver.all(), hasura_receiver, &all);

    guide.follow("5. Remove the event trigger");
    let asked = receiver.all().pop().expect("the metadata API has been asked");
    assert_eq!(
        (asked.path.as_str(), asked.headers["x-hasura-admin-secret"].as_str()),
        ("/v1/metadata", "admin")
    );
    assert_eq!(asked.json()["type"], "pg_delete_event_trigger");
    assert_eq!(asked.json()["args"], json!({ "source": "default", "name": "order_changed" }));

    guide.follow("Session variables");
    let variables = json!({ "x-hasura-role": "user", "x-hasura-user-id": "7" });
    let count = receiver.all().len();
    database
        .run(&format!("begin; select set_config('hasura.user', '{variables}', true); insert into orders values (0, 'Zoë'); commit; insert into orders values (-1, 'Zoë')"))
        .await;
    receiver.wait("two more", |all| all.len() == count + 2).await;
    let of = |id: i64| {
        let all = receiver.all();
        let found =
            all.iter().map(Request::json).find(|payload| payload["event"]["data"]["new"]["id"] == json!(id));
        found.expect("it came")["event"]["session_variables"].clone()
    };
    assert_eq!((of(0), of(-1)), (variables, Value::Null));
    engine.abort();
    guide.end();
}

// ── NOTIFY ──────────────────────────────────────────────────────────────────────────────────────────────────────

const NOTIFY: &str = "
    create function tell_order() returns trigger language plpgsql as $$
    begin
        perform pg_notify('orders', json_build_object('op', tg_op, 'id', new.id, 'total', new.total)::text);
        return null;
    end $$;
    create trigger tell_order after insert or update on orders for each row execute function tell_order()";

/// The process that makes a POST of each notification.
async fn listener(database: &Database, url: String) -> JoinHandle<()> {
    let (client, mut connection) =
        tokio_postgres::connect(&database.url(), NoTls).await.expect("it connects");
    let (sender, mut notes) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(note) = message {
                let _ = sender.send(note.payload().to_owned());
            }
        }
    });
    client.batch_execute("listen orders").await.expect("it listens");
    tokio::spawn(async move {
        while let Some(body) = notes.recv().await {
            post(&url, &[("content-type", "application/json")], body).await;
        }
        drop(client);
    })
}

fn notify_receiver(request: &Request) -> (String, i64) {
    let told = request.json();
    let (op, id) = (told["op"].as_str().expect("an operation"), told["id"].as_i64().expect("an id"));
    let total = if op == "INSERT" { "1.50" } else { "2.50" };
    assert_eq!(request.body, format!(r#"{{"op" : "{op}", "id" : {id}, "total" : {total}}}"#), "to the byte");
    assert_eq!(request.headers["content-type"], "application/json");
    (op.to_owned(), id)
}

#[tokio::test(flavor = "multi_thread")]
async fn from_notify() {
    let (database, receiver, _daemon) = started().await;
    database.run(NOTIFY).await;
    let listening = listener(&database, receiver.url.clone()).await;
    let mut writers = Writers::start(&database, WRITES).await;
    receiver.wait("the old sender is at work", |all| all.len() > 30).await;

    let mut guide = Guide::new("From a trigger of your own with NOTIFY", &database, &receiver);
    let seen = guide.follow("1. See what there is");
    assert_eq!(seen, "tell_order()|orders|tell_order");
    assert!(guide.follow("2. Subscribe").contains("whsec_"));
    guide.follow("3. Let the writers emit");
    writers.more(20).await;
    assert!(!receiver.all().iter().any(Request::is_ours), "a subscription alone changes nothing");
    guide.change_over("4. Change over");
    writers.more(20).await;
    receiver.wait("both are at work", |all| all.iter().filter(|one| one.is_ours()).count() > 30).await;
    writers.stop().await;
    let all = written(&database, "{INSERT,UPDATE}").await;
    receiver.wait("everything", |requests| requests.len() >= all.len()).await;
    database
        .until("select not exists (select from webhook.delivery where state <> 'delivered')", PATIENCE)
        .await;
    each_once(&receiver.all(), notify_receiver, &all);
    listening.abort();
    guide.until("5. End the listener", |said| said.starts_with("delivered|")).await;

    guide.change_over("Further");
    let count = receiver.all().len();
    database.run("insert into orders values (0, 'Zoë')").await;
    receiver.wait("one more", |all| all.len() > count).await;
    let told = receiver.all().pop().expect("it came").json();
    assert_eq!((&told["type"], &told["data"]["id"]), (&json!("order.created"), &json!(0)));
    guide.end();
}

/// What the page says of the daemon's command.
#[tokio::test(flavor = "multi_thread")]
async fn the_check_finds_nothing_wrong() {
    let (database, _receiver, _daemon) = started().await;
    let output =
        Command::new(binary()).args(["check", "--database-url", &database.url()]).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
}
