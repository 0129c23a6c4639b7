//! Promise: SQL, the command line, REST (with a client generated from the served document) and the
//! page can each run the whole life of a subscription. Afterwards the tables hold the same.

use e2e::{
    PATIENCE,
    admin::{Admin, token},
    browser::Browser,
    daemon::binary,
    foreign::Client as Generated,
    receiver::SECRET,
    world::World,
};
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::process::Command;

/// The result of a creation: the subscription's number and secret.
type Made = (i64, String);

/// One of the four ways, always used as alice.
enum Way<'a> {
    Sql(&'a World),
    CommandLine(String),
    Rest(Box<Generated>),
    Page(Box<Page>),
}

/// The page, in a browser.
struct Page {
    browser: Browser,
}

impl Page {
    async fn show(&self, path: &str) -> String {
        self.browser.go(path).await;
        self.browser.source().await
    }

    /// Fills in and submits the form with this button.
    async fn send(&self, page: &str, button: &str, fields: &[(&str, &str)]) -> String {
        self.browser.go(page).await;
        self.browser.submit(&format!("main form:has({button})"), fields, button).await;
        self.browser.source().await
    }

    /// Presses a button, and confirms it on the next page.
    async fn act_and_confirm(&self, id: i64, action: &str, fields: &[(&str, &str)]) -> String {
        self.act(id, action, fields).await;
        let confirm = format!("button[value='{action}']");
        self.browser.submit(&format!("main form:has({confirm})"), &[], &confirm).await;
        self.browser.source().await
    }

    async fn act(&self, id: i64, action: &str, fields: &[(&str, &str)]) -> String {
        self.send(&format!("/subscriptions/{id}"), &format!("button[value='{action}']"), fields).await
    }

    /// Returns the text after each `mark` on a page, up to `end`.
    async fn all(&self, path: &str, mark: &str, end: char) -> Vec<String> {
        let text = self.show(path).await;
        text.split(mark).skip(1).filter_map(|rest| rest.split(end).next()).map(str::to_owned).collect()
    }
}

fn secret_of(text: &str) -> String {
    let (_, rest) = text.split_once("whsec_").unwrap_or_else(|| panic!("no secret in {text}"));
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+/=".contains(c))).unwrap_or(rest.len());
    format!("whsec_{}", &rest[..end])
}

fn rows(value: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let rows = value.as_array().expect("rows").iter();
    rows.map(|row| (text(&row[0]), text(&row[1]))).collect()
}

impl Way<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Sql(_) => "sql",
            Self::CommandLine(_) => "cli",
            Self::Rest(_) => "rest",
            Self::Page(_) => "page",
        }
    }

    /// Runs the command line and returns its output.
    async fn run(url: &str, arguments: &[&str]) -> String {
        let output = Command::new(binary())
            .args(arguments)
            .args(["--database-url", url])
            .env_remove("DATABASE_URL")
            .stdin(Stdio::null())
            .output()
            .await
            .expect("it runs");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    async fn json(url: &str, arguments: &[&str]) -> Vec<Value> {
        let text = Self::run(url, &[arguments, &["--json"]].concat()).await;
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    async fn sql(world: &World, query: &str) -> Option<String> {
        let client = world.database.try_client("alice").await.expect("she may connect");
        e2e::cluster::value(&client, query).await
    }

    async fn create(&mut self, url: &str) -> Made {
        match self {
            Self::Sql(world) => {
                let made = Self::sql(world, &format!(
                    "select id || ' ' || secret from webhook_subscribe('{url}', '{{order.*}}', name => 'sql', retry => '{{200 ms}}',
                         timeout => '7 s', max_in_flight => 3, rate_limit => 50, filter => '$.data.total > 0', headers => '{{\"X-Team\": \"a\"}}')"
                )).await.expect("it is made");
                let (id, secret) = made.split_once(' ').expect("two");
                (id.parse().expect("a number"), secret.to_owned())
            }
            Self::CommandLine(database) => {
                let set = [
                    "events={order.*}",
                    "name=cli",
                    "retry={200 ms}",
                    "timeout=7 s",
                    "max_in_flight=3",
                    "rate_limit=50",
                    "filter=$.data.total > 0",
                    "headers={\"X-Team\": \"a\"}",
                ];
                let mut arguments = vec!["subscription", "create", url];
                arguments.extend(set.iter().flat_map(|pair| ["--set", pair]));
                let made = &Self::json(database, &arguments).await[0];
                (
                    made["id"].as_i64().expect("a number"),
                    made["secret"].as_str().expect("a secret").to_owned(),
                )
            }
            Self::Rest(client) => {
                let draft = json!({"url": url, "events": ["order.*"], "name": "rest", "retry": ["PT0.2S"], "timeout": "PT7S", "max_in_flight": 3,
                    "rate_limit": 50, "filter": "$.data.total > 0", "headers": {"X-Team": "a"}});
                let made = client.ask(&json!({"do": "create", "draft": draft})).await;
                (
                    made["id"].as_i64().expect("a number"),
                    made["secret"].as_str().expect("a secret").to_owned(),
                )
            }
            Self::Page(page) => {
                let fields = [
                    ("url", url),
                    ("events", "order.*\n"),
                    ("name", "page"),
                    ("retry", "PT0.2S"),
                    ("timeout", "PT7S"),
                    ("max_in_flight", "3"),
                    ("rate_limit", "50"),
                    ("filter", "$.data.total > 0"),
                    ("headers", "X-Team: a\n"),
                    ("format", "standard"),
                    ("payload_mode", "full"),
                    ("ordering", "none"),
                    ("verification", "none"),
                    ("owner", ""),
                ];
                let shown = page.send("/subscriptions/new", "button.main", &fields).await;
                let (_, rest) = shown.split_once("href=\"/subscriptions/").expect("where it is");
                let (_, rest) =
                    rest.split_once("class=\"button main\" href=\"/subscriptions/").unwrap_or(("", rest));
                let id = rest.split('"').next().and_then(|id| id.parse().ok());
                let id = id.unwrap_or_else(|| panic!("no number in {shown}"));
                (id, secret_of(&shown))
            }
        }
    }

    async fn list(&mut self) -> Vec<i64> {
        match self {
            Self::Sql(world) => {
                let ids = Self::sql(
                    world,
                    "select coalesce(string_agg(id::text, ' '), '') from webhook.subscription",
                )
                .await;
                ids.unwrap_or_default().split_whitespace().map(|id| id.parse().expect("a number")).collect()
            }
            Self::CommandLine(url) => {
                let found = Self::json(url, &["subscription", "list"]).await;
                found.iter().map(|row| row["id"].as_i64().expect("a number")).collect()
            }
            Self::Rest(client) => {
                serde_json::from_value(client.ask(&json!({"do": "list"})).await).expect("numbers")
            }
            Self::Page(page) => {
                let found = page.all("/subscriptions", "href=\"/subscriptions/", '"').await;
                found.iter().filter_map(|id| id.parse().ok()).collect()
            }
        }
    }

    async fn change(&mut self, id: i64) {
        match self {
            Self::Sql(world) => {
                Self::sql(
                    world,
                    &format!("select (webhook_alter({id}, timeout => '9 s', clear => '{{filter}}')).name"),
                )
                .await;
            }
            Self::CommandLine(url) => {
                Self::run(
                    url,
                    &["subscription", "alter", &id.to_string(), "--set", "timeout=9 s", "--clear", "filter"],
                )
                .await;
            }
            Self::Rest(client) => {
                let draft = json!({"timeout": "PT9S", "filter": null});
                let changed = client.ask(&json!({"do": "change", "id": id, "draft": draft})).await;
                assert_eq!(changed, json!(["PT7S", "PT9S"]));
            }
            Self::Page(page) => {
                page.act(id, "alter", &[("timeout", "PT9S"), ("filter", "")]).await;
            }
        }
    }

    async fn pause(&mut self, id: i64) {
        match self {
            Self::Sql(world) => {
                drop(Self::sql(world, &format!("select webhook_pause({id}, 'lunch')::text")).await)
            }
            Self::CommandLine(url) => {
                Self::run(url, &["subscription", "pause", &id.to_string(), "--reason", "lunch"]).await;
            }
            Self::Rest(client) => {
                assert_eq!(client.ask(&json!({"do": "pause", "id": id, "reason": "lunch"})).await, false);
            }
            Self::Page(page) => drop(page.act(id, "pause", &[("reason", "lunch")]).await),
        }
    }

    async fn resume(&mut self, id: i64) {
        match self {
            Self::Sql(world) => drop(Self::sql(world, &format!("select webhook_resume({id})::text")).await),
            Self::CommandLine(url) => {
                drop(Self::run(url, &["subscription", "resume", &id.to_string()]).await)
            }
            Self::Rest(client) => assert_eq!(client.ask(&json!({"do": "resume", "id": id})).await, true),
            Self::Page(page) => drop(page.act(id, "resume", &[]).await),
        }
    }

    async fn rotate(&mut self, id: i64) -> String {
        secret_of(&match self {
            Self::Sql(world) => Self::sql(world, &format!("select webhook_rotate_secret({id}, '1 h')"))
                .await
                .expect("a secret"),
            Self::CommandLine(url) => {
                Self::run(url, &["subscription", "rotate", &id.to_string(), "--overlap", "1 h"]).await
            }
            Self::Rest(client) => client.ask(&json!({"do": "rotate", "id": id})).await.to_string(),
            Self::Page(page) => page.act_and_confirm(id, "rotate", &[("overlap", "PT1H")]).await,
        })
    }

    async fn ping(&mut self, id: i64) {
        match self {
            Self::Sql(world) => drop(Self::sql(world, &format!("select webhook_ping({id})")).await),
            Self::CommandLine(url) => drop(Self::run(url, &["subscription", "ping", &id.to_string()]).await),
            Self::Rest(client) => drop(client.ask(&json!({"do": "ping", "id": id})).await),
            Self::Page(page) => drop(page.act(id, "ping", &[]).await),
        }
    }

    /// Returns events and states, newest first.
    async fn deliveries(&mut self, id: i64) -> Vec<(String, String)> {
        match self {
            Self::Sql(world) => {
                let query = format!("select coalesce(json_agg(json_build_array(event_id, state) order by sequence desc), '[]')::text
                    from webhook.delivery where subscription_id = {id}");
                let text = Self::sql(world, &query).await.expect("JSON");
                rows(&serde_json::from_str(&text).expect("JSON"))
            }
            Self::CommandLine(url) => {
                let found = Self::json(url, &["delivery", "list", "--subscription", &id.to_string()]).await;
                let pairs = found.iter().map(|row| json!([row["event_id"], row["state"]])).collect();
                rows(&Value::Array(pairs))
            }
            Self::Rest(client) => rows(&client.ask(&json!({"do": "deliveries", "id": id})).await),
            Self::Page(page) => {
                let text = page.show(&format!("/deliveries?subscription={id}")).await;
                let body = text.split("<tbody>").nth(1).unwrap_or_default();
                body.split("<tr>")
                    .skip(1)
                    .map(|row| {
                        let (_, rest) = row.split_once("href=\"/deliveries/").expect("a delivery");
                        let event = rest.split('/').next().unwrap_or_default().to_owned();
                        let state = ["delivered", "retrying", "queued", "exhausted"]
                            .into_iter()
                            .find(|state| row.contains(&format!(">{state}<")));
                        (event, state.expect("a state").to_owned())
                    })
                    .collect()
            }
        }
    }

    /// Returns outcomes and statuses, oldest first.
    async fn attempts(&mut self, event: &str, id: i64) -> Vec<(String, String)> {
        match self {
            Self::Sql(world) => {
                let query = format!("select coalesce(json_agg(json_build_array(outcome, status) order by attempt), '[]')::text
                    from webhook.attempt where event_id = webhook.event_sequence('{event}') and subscription_id = {id}");
                let text = Self::sql(world, &query).await.expect("JSON");
                rows(&serde_json::from_str(&text).expect("JSON"))
            }
            Self::CommandLine(url) => {
                let found = Self::json(url, &["delivery", "show", event, &id.to_string()]).await;
                rows(&Value::Array(found.iter().map(|row| json!([row["outcome"], row["status"]])).collect()))
            }
            Self::Rest(client) => {
                rows(&client.ask(&json!({"do": "attempts", "id": id, "event": event})).await)
            }
            Self::Page(page) => {
                let text = page.show(&format!("/deliveries/{event}/{id}")).await;
                let mut found: Vec<_> = text
                    .split("<h3>Attempt ")
                    .skip(1)
                    .map(|rest| {
                        let outcome = [("succeeded", "succeeded"), ("http_error", "HTTP error")]
                            .into_iter()
                            .find(|(_, words)| rest.contains(&format!(">{words}<")))
                            .map(|(word, _)| word);
                        let (_, status) = rest.split_once("<span>HTTP ").expect("a status");
                        (outcome.expect("an outcome").to_owned(), status.chars().take(3).collect())
                    })
                    .collect();
                found.reverse();
                found
            }
        }
    }

    async fn redeliver(&mut self, event: &str, id: i64) {
        match self {
            Self::Sql(world) => {
                drop(Self::sql(world, &format!("select webhook_redeliver('{event}', {id})::text")).await)
            }
            Self::CommandLine(url) => {
                drop(Self::run(url, &["delivery", "redeliver", event, &id.to_string()]).await)
            }
            Self::Rest(client) => {
                drop(client.ask(&json!({"do": "redeliver", "id": id, "event": event})).await)
            }
            Self::Page(page) => {
                let path = format!("/deliveries/{event}/{id}");
                page.send(&path, "button.main", &[]).await;
            }
        }
    }

    async fn delete(&mut self, id: i64) {
        match self {
            Self::Sql(world) => {
                drop(Self::sql(world, &format!("select webhook_unsubscribe({id})::text")).await)
            }
            Self::CommandLine(url) => {
                drop(Self::run(url, &["subscription", "delete", &id.to_string()]).await)
            }
            Self::Rest(client) => drop(client.ask(&json!({"do": "delete", "id": id})).await),
            Self::Page(page) => drop(page.act_and_confirm(id, "delete", &[]).await),
        }
    }
}

/// Returns the rows that a life leaves in the tables, without the columns that differ between two
/// lives.
async fn traces(world: &World, id: i64) -> Value {
    let options = format!(
        "select (to_jsonb(s) - '{{id,name,url,created_at,updated_at,failures_reset_at,created_snapshot}}'::text[])::text from webhook.subscription s where id = {id}"
    );
    let health = format!(
        "select json_build_object('enabled', enabled, 'circuit', circuit, 'failures', consecutive_failures, 'retrying', retrying, 'queued', queued,
             'delivered', delivered_1h, 'failed', failed_attempts_1h)::text from webhook.subscription_stats where id = {id}"
    );
    let attempts = format!(
        "select json_agg(json_build_array(e.type, a.attempt, a.outcome, a.status, a.next_at is null) order by a.event_id, a.attempt)::text
         from webhook.attempt a join webhook.event e on e.xid = a.event_xid and e.id = a.event_id where a.subscription_id = {id}"
    );
    let secrets = format!(
        "select json_agg(expires_at is null order by id)::text from webhook.secret where subscription_id = {id}"
    );
    let mut all = Vec::new();
    for query in [options, health, attempts, secrets] {
        let text = world.database.text(&query).await.expect("a row");
        all.push(serde_json::from_str::<Value>(&text).expect("JSON"));
    }
    Value::Array(all)
}

/// Runs the whole life of a subscription. Returns the rows that it left just before its end.
async fn live(world: &World, way: &mut Way<'_>, order: i64) -> Value {
    let name = way.name();
    let path = format!("/flaky/1/{name}");
    // The secret is set in advance, because the receiver judges requests on arrival.
    world.receiver.expect_secret(&path, SECRET);
    let (id, secret) = way.create(&world.receiver.url(&path)).await;
    world.receiver.expect_secret(&path, &secret);
    assert_eq!(way.list().await, [id], "{name}");
    way.change(id).await;
    let delivered = |count: i64| {
        format!(
            "select count(*) = {count} from webhook.delivery where subscription_id = {id} and state = 'delivered'"
        )
    };

    // The delivery is tried, fails, and is retried.
    world.insert_orders(order, 1).await;
    world.database.until(&delivered(1), PATIENCE).await;
    let told = way.deliveries(id).await;
    let [(event, state)] = told.as_slice() else { panic!("{name}: {told:?}") };
    assert_eq!(state, "delivered", "{name}");
    let pair = |outcome: &str, status: &str| (outcome.to_owned(), status.to_owned());
    let tried = [pair("http_error", "500"), pair("succeeded", "200")];
    assert_eq!(way.attempts(event, id).await, tried, "{name}");

    // Events are kept while the subscription is paused.
    way.pause(id).await;
    let reason = format!("select paused_reason from webhook.subscription where id = {id}");
    assert_eq!(world.database.text(&reason).await.as_deref(), Some("lunch"), "{name}");
    world.insert_orders(order + 1, 1).await;
    let queued = format!("select exists (select from webhook.queue where subscription_id = {id})");
    world.database.until(&queued, PATIENCE).await;
    assert_eq!(way.deliveries(id).await[0].1, "queued", "{name}");
    way.resume(id).await;
    world.database.until(&delivered(2), PATIENCE).await;

    // The new secret signs, and so does the old one.
    let rotated = way.rotate(id).await;
    assert_ne!(rotated, secret, "{name}");
    world.receiver.expect_secret(&path, &rotated);
    way.ping(id).await;
    world.database.until(&delivered(3), PATIENCE).await;
    way.redeliver(event, id).await;
    let thrice = format!(
        "select count(*) = 3 from webhook.attempt where subscription_id = {id} and event_id = webhook.event_sequence('{event}')"
    );
    world.database.until(&thrice, PATIENCE).await;
    world.settled(PATIENCE).await;
    assert_eq!(way.attempts(event, id).await, [&tried[..], &tried[1..]].concat(), "{name}");

    let left = traces(world, id).await;
    way.delete(id).await;
    assert_eq!(way.list().await, Vec::<i64>::new(), "{name}");
    assert_eq!(world.database.number("select count(*) from webhook.subscription").await, 0, "{name}");
    left
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_through_each() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    world.database.run("alter role alice login").await;
    world.orders_belong_to("alice").await;
    let alice = token(&world.database, &["--role", "alice"]);
    let admin = Admin::start(&world.database, &[]).await;
    let document = admin.ask("GET", "/v1/openapi.json", None, &[], None).await.text;
    let generated = Generated::generate(&document, &admin.url, &alice).await;
    let browser = Browser::start(&admin.url).await;
    browser.go("/login").await;
    browser.fill("Token", &alice).await;
    browser.press("Sign in").await;
    let ways = [
        Way::Sql(&world),
        Way::CommandLine(world.database.url_as("alice")),
        Way::Rest(Box::new(generated)),
        Way::Page(Box::new(Page { browser })),
    ];
    let mut lives = Vec::new();
    for (at, mut way) in (0..).zip(ways) {
        let left = live(&world, &mut way, 1 + 10 * at).await;
        lives.push((way.name(), left));
    }
    let (first, rest) = lives.split_first().expect("four");
    assert!(first.1.to_string().contains("webhook.ping"), "{first:?}");
    for (name, left) in rest {
        assert_eq!(left, &first.1, "{name} and {}", first.0);
    }
    assert!(world.receiver.look(|record| record.rejected.is_empty()), "every request was signed as promised");
}
