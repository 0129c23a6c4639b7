//! Promise: no byte of an event of one owner reaches another owner. Owners subscribe, filter,
//! replay, redeliver and pull at random, and rows and subscriptions move between owners.
//!
//! Each text in a row names the owner of the row, and each path of the receiver names the owner of
//! its subscriptions. So a byte that crossed is a name in the wrong place.

use e2e::{
    PATIENCE,
    admin::{Admin, token},
    receiver::{Behaviour, SECRET},
    scale,
    world::World,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::json;
use std::collections::HashSet;
use tokio_postgres::Client;

const OWNERS: [&str; 4] = ["ada", "bea", "cid", "dora"];

const TABLES: &str = "
    create table note (id bigint primary key, owner text, body text not null);
    select webhook_watch('note', owner_column => 'owner');
    create table memo (id bigint primary key, owner text, body text not null);
    create function owner_of(memo) returns text language sql immutable return $1.owner;
    select webhook_watch('memo', owner_function => 'owner_of');
    create table log (id bigint primary key, body text not null);
    select webhook_watch('log', owner_setting => 'app.owner');
    create table score (id bigint primary key, owner text, body text not null);
    select webhook_watch('score', owner_column => 'owner');
    update webhook.event_type set internal = true where type like 'score.%'";

const PATTERNS: [&str; 7] = ["*", "note.*", "memo.*", "log.created", "score.*", "note.deleted", "webhook.*"];
const FILTERS: [&str; 4] = [
    "$.type != \"note.updated\"",
    "$.data.id > 20",
    "exists($.data.body)",
    "$.data.body like_regex \"secret\"",
];

/// The text that a row of an owner contains.
fn mark(owner: &str, number: u32) -> String {
    format!("secret-of-{owner}-{number}")
}

struct Owner {
    name: &'static str,
    token: String,
    subscriptions: Vec<i64>,
}

struct Trial {
    world: World,
    admin: Admin,
    app: Client,
    owners: Vec<Owner>,
    random: StdRng,
    number: u32,
}

impl Trial {
    async fn begin(seed: u64) -> Self {
        let world = World::new().await;
        Admin::roles(&world.database).await;
        world.database.run(TABLES).await;
        let owners = OWNERS
            .map(|name| Owner {
                name,
                token: token(&world.database, &["--role", "tenants", "--owner", name]),
                subscriptions: Vec::new(),
            })
            .into();
        world.receiver.trust();
        for name in OWNERS {
            // Some answers fail, so that there are retries and deliveries in the queue.
            world.receiver.behave_by(&format!("/ok/{name}/some"), |request, times| {
                let fails = times == 1 && request.body.len().is_multiple_of(3);
                Behaviour::Status(if fails { 503 } else { 204 })
            });
        }
        let admin = Admin::start(&world.database, &["--probe-interval-ms", "200"]).await;
        let app = world.database.client().await;
        Self { world, admin, app, owners, random: StdRng::seed_from_u64(seed), number: 0 }
    }

    fn next(&mut self) -> u32 {
        self.number += 1;
        self.number
    }

    fn owner(&mut self) -> usize {
        self.random.random_range(0..self.owners.len())
    }

    /// Subscribes an owner to everything, for the whole trial: its path must get all of its events.
    async fn subscribe_to_all(&mut self) {
        for at in 0..self.owners.len() {
            let url = self.world.receiver.url(&format!("/ok/{}/all", self.owners[at].name));
            self.ask(at, "POST", "/v1/subscriptions", Some(json!({"url": url, "events": ["*"]}))).await;
        }
    }

    /// Sends a request of an owner. The answer may contain no text of another owner.
    async fn ask(&self, at: usize, method: &str, path: &str, body: Option<serde_json::Value>) -> String {
        let owner = &self.owners[at];
        let body = body.map(|body| body.to_string());
        let answer = self.admin.ask(method, path, Some(&owner.token), &[], body.as_deref()).await;
        assert!(answer.status.as_u16() < 500, "{method} {path}: {answer:?}");
        self.is_clean(owner.name, &answer.text, &format!("{method} {path}"));
        answer.text
    }

    fn is_clean(&self, owner: &str, text: &str, place: &str) {
        for other in OWNERS.iter().filter(|other| **other != owner) {
            let word = format!("secret-of-{other}-");
            assert!(!text.contains(&word), "{place} of {owner} contains {word}: {text}");
        }
        assert!(!text.contains("secret-of-none"), "{place} of {owner}: {text}");
    }

    /// A change of a row, perhaps with a change of its owner.
    async fn change(&mut self) {
        let number = self.next();
        let at = self.owner();
        let owner = if self.random.random_ratio(1, 8) { "none" } else { self.owners[at].name };
        let column = if owner == "none" { "null".to_owned() } else { format!("'{owner}'") };
        let (id, body) = (self.random.random_range(1..40), mark(owner, number));
        let table = *["note", "memo", "score"].choose(&mut self.random).expect("a table");
        let statement = match self.random.random_range(0..6) {
            0 => format!("delete from {table} where id = {id}"),
            1 => format!(
                "begin; set local app.owner = '{}'; insert into log values ({number}, '{body}'); commit",
                if owner == "none" { "" } else { owner }
            ),
            2 => {
                format!("select webhook_emit('note.remarked', '{{\"body\":\"{body}\"}}', owner => {column})")
            }
            _ => format!(
                "insert into {table} values ({id}, {column}, '{body}')
                 on conflict (id) do update set owner = excluded.owner, body = excluded.body"
            ),
        };
        self.app.batch_execute(&statement).await.expect("a change");
    }

    async fn subscribe(&mut self) {
        let at = self.owner();
        let name = self.owners[at].name;
        let pattern = *PATTERNS.choose(&mut self.random).expect("a pattern");
        let url = self.world.receiver.url(&format!("/ok/{name}/some"));
        let mut body =
            json!({"url": url, "events": [pattern], "secret": SECRET, "retry": ["PT0.1S", "PT0.1S"]});
        if self.random.random() {
            body["filter"] = json!(FILTERS.choose(&mut self.random).expect("a filter"));
        }
        if self.random.random_ratio(1, 3) {
            body["ordering"] = json!("key");
        }
        let answer = self.ask(at, "POST", "/v1/subscriptions", Some(body)).await;
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        self.owners[at].subscriptions.extend(answer["id"].as_i64());
    }

    /// An owner and one of its subscriptions.
    fn subscription(&mut self) -> Option<(usize, i64)> {
        let at = self.owner();
        self.owners[at].subscriptions.choose(&mut self.random).map(|id| (at, *id))
    }

    async fn alter(&mut self) {
        let Some((at, id)) = self.subscription() else { return };
        let pattern = *PATTERNS.choose(&mut self.random).expect("a pattern");
        let filter =
            self.random.random::<bool>().then(|| *FILTERS.choose(&mut self.random).expect("a filter"));
        let body = json!({"events": [pattern], "filter": filter});
        self.ask(at, "PATCH", &format!("/v1/subscriptions/{id}"), Some(body)).await;
    }

    /// An admin gives a subscription to another owner, with the other owner's URL.
    async fn transfer(&mut self) {
        let Some((from, id)) = self.subscription() else { return };
        let to = self.owner();
        let url = self.world.receiver.url(&format!("/ok/{}/some", self.owners[to].name));
        let statement =
            format!("select webhook_alter({id}, owner => '{}', url => '{url}')", self.owners[to].name);
        self.app.batch_execute(&statement).await.expect("a transfer");
        self.owners[from].subscriptions.retain(|other| *other != id);
        self.owners[to].subscriptions.push(id);
    }

    /// Redelivers any event, of any owner.
    async fn redeliver(&mut self) {
        let Some((at, id)) = self.subscription() else { return };
        let any = "select webhook.public_id(id, created_at) from webhook.event order by random() limit 1";
        let Some(event) = self.world.database.text(any).await else { return };
        self.ask(at, "POST", &format!("/v1/deliveries/{event}/{id}/redeliver"), Some(json!({}))).await;
        self.ask(at, "GET", &format!("/v1/deliveries/{event}/{id}"), None).await;
        self.ask(at, "GET", &format!("/v1/events/{event}"), None).await;
    }

    async fn replay(&mut self) {
        let Some((at, id)) = self.subscription() else { return };
        let body = json!({"since": "-infinity"});
        self.ask(at, "POST", &format!("/v1/subscriptions/{id}/replay"), Some(body)).await;
    }

    async fn read(&mut self) {
        let at = self.owner();
        for path in ["/v1/events", "/v1/deliveries", "/v1/event-types"] {
            self.ask(at, "GET", path, None).await;
        }
        let Some((at, id)) = self.subscription() else { return };
        self.ask(at, "GET", &format!("/v1/subscriptions/{id}/events"), None).await;
    }

    async fn step(&mut self) {
        match self.random.random_range(0..20) {
            0 | 1 => self.subscribe().await,
            2 => self.alter().await,
            3 => self.transfer().await,
            4 | 5 => self.redeliver().await,
            6 => self.replay().await,
            7 | 8 => self.read().await,
            _ => self.change().await,
        }
    }

    /// What arrived at the paths of each owner is the owner's, and all of it.
    async fn judge(&self) {
        let nothing_is_left =
            "select not exists (select from webhook.delivery where state in ('queued', 'retrying'))";
        self.world.database.until(nothing_is_left, PATIENCE).await;
        for owner in &self.owners {
            let (all, some) = (format!("/ok/{}/all", owner.name), format!("/ok/{}/some", owner.name));
            for path in [&all, &some] {
                for request in self.world.receiver.at(path) {
                    self.is_clean(owner.name, &String::from_utf8_lossy(&request.body), path);
                }
            }
            let own = format!(
                "select coalesce(string_agg(webhook.public_id(e.id, e.created_at), ' '), '') from webhook.event e
                 where e.owner = '{}' and e.type not like 'webhook.%' and e.type not like 'score.%'",
                owner.name
            );
            let own = self.world.database.text(&own).await.unwrap_or_default();
            let own: HashSet<&str> = own.split_whitespace().collect();
            let got: HashSet<String> =
                self.world.receiver.at(&all).into_iter().map(|request| request.id().to_owned()).collect();
            let missing: Vec<_> = own.iter().filter(|id| !got.contains(**id)).collect();
            assert!(missing.is_empty(), "{} did not get {missing:?}", owner.name);
            assert!(!own.is_empty(), "{} has events", owner.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_random() {
    let seed = scale("PGW_SEED", rand::random::<u32>().into(), rand::random::<u32>().into());
    println!("PGW_SEED={seed}");
    let mut trial = Trial::begin(seed).await;
    trial.subscribe_to_all().await;
    for _ in 0..scale("PGW_STEPS", 250, 1500) {
        trial.step().await;
    }
    trial.judge().await;
}
