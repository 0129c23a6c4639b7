//! Promise: a customer with a token gets only events of that customer. The customer may subscribe,
//! change, redeliver, pull and read.

use e2e::{
    PATIENCE,
    admin::{Admin, Answer, token},
    receiver::SECRET,
    world::World,
};
use serde_json::{Value, json};

/// Customers with invoices, a table of the operator's own, and an internal table.
const TABLES: &str = "
    create table invoice (id bigint primary key, tenant_id integer not null, note text);
    comment on table invoice is 'An invoice.';
    select webhook_watch('invoice', owner_column => 'tenant_id');
    create table employee (id bigint primary key, note text);
    comment on table employee is 'internal: salaries';
    select webhook_watch('employee');
    create table fraud_score (id bigint primary key, tenant_id integer not null, note text);
    comment on table fraud_score is 'internal: fraud scores';
    select webhook_watch('fraud_score', owner_column => 'tenant_id');
    update webhook.event_type set internal = true where type like 'fraud_score.%'";

struct Shop {
    world: World,
    admin: Admin,
    /// Token of customer 7.
    seven: String,
    /// Token of an admin.
    ops: String,
}

impl Shop {
    async fn open() -> Self {
        let world = World::new().await;
        Admin::roles(&world.database).await;
        world.database.run(TABLES).await;
        let seven = token(&world.database, &["--role", "tenants", "--owner", "7"]);
        let ops = token(&world.database, &["--role", "ops"]);
        let admin = Admin::start(&world.database, &[]).await;
        Self { world, admin, seven, ops }
    }

    /// Subscribes customer 7 to patterns; returns the id.
    async fn subscribe(&self, path: &str, events: Value) -> i64 {
        let body = json!({"url": self.world.receiver.url(path), "events": events, "secret": SECRET});
        let answer = self.admin.post("/v1/subscriptions", &self.seven, &body.to_string()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["id"].as_i64().expect("a number")
    }

    /// Changes rows of customers 7 and 8, of no owner, and of the internal table. The event of
    /// customer 7 comes last.
    async fn change(&self, id: i64) {
        self.world
            .database
            .run(&format!(
                "insert into invoice values ({id}0, 8, 'of customer 8');
                 insert into employee values ({id}, 'of no owner');
                 insert into fraud_score values ({id}, 7, 'internal');
                 insert into orders values ({id}, 'of no owner');
                 update invoice set note = 'still of customer 8' where id = {id}0;
                 insert into invoice values ({id}, 7, 'of customer 7')"
            ))
            .await;
    }

    /// Returns the public id of the first event with this note.
    async fn event(&self, note: &str) -> String {
        let query = format!(
            "select webhook.public_id(id, created_at) from webhook.event
             where payload->>'note' = '{note}' order by id limit 1"
        );
        self.world.database.text(&query).await.expect("an event")
    }

    /// Waits until customer 7 has got this many events at `path`, and checks that all are its own.
    async fn got_only_own(&self, path: &str, count: usize) {
        self.world.receiver.wait_for(path, count, PATIENCE).await;
        for request in self.world.receiver.at(path) {
            let body: Value = serde_json::from_slice(&request.body).expect("JSON");
            assert_eq!(body["data"]["note"], "of customer 7", "{body}");
        }
        let others =             "select count(*) from webhook.attempt a join webhook.event e on e.xid = a.event_xid and e.id = a.event_id
             join webhook.subscription s on s.id = a.subscription_id
             where s.owner = '7' and (e.owner is null or e.owner not in ('7', '*'))";
        assert_eq!(self.world.database.number(others).await, 0);
    }
}

fn names_nothing_of_others(answer: &Answer) {
    for word in ["customer 8", "of no owner", "internal", "fraud", "employee", "salaries"] {
        assert!(!answer.text.contains(word), "{word}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_star_of_a_customer_is_the_customers_events() {
    let shop = Shop::open().await;
    let id = shop.subscribe("/ok/seven", json!(["*"])).await;
    let shown = shop.admin.get(&format!("/v1/subscriptions/{id}"), &shop.seven).await;
    assert_eq!(shown.json()["scope"], "own", "{shown:?}");
    shop.change(1).await;
    shop.world
        .database
        .run("select webhook_emit('invoice.reminded', '{\"note\":\"of customer 7\"}', owner => '*')")
        .await;
    shop.got_only_own("/ok/seven", 2).await;
    // Nor may the customer choose more.
    let path = format!("/v1/subscriptions/{id}");
    let body = Some(r#"{"scope":"all"}"#);
    let refused = shop.admin.ask("PATCH", &path, Some(&shop.seven), &[], body).await;
    assert!([403, 422].contains(&refused.status.as_u16()), "{refused:?}");
    assert!(refused.text.contains("scope"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_is_patched_away_opens_nothing() {
    let shop = Shop::open().await;
    let id = shop.subscribe("/ok/seven", json!(["*"])).await;
    let set = format!("select webhook_alter({id}, filter => '$.data.tenant_id == 7')");
    shop.world.database.run(&set).await;
    let path = format!("/v1/subscriptions/{id}");
    let answer = shop.admin.ask("PATCH", &path, Some(&shop.seven), &[], Some(r#"{"filter":null}"#)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    shop.change(1).await;
    shop.got_only_own("/ok/seven", 1).await;
    // An admin can lock the filter.
    let lock = format!("select webhook_alter({id}, filter => '$.data.id > 1', locked => '{{filter}}')");
    shop.world.database.run(&lock).await;
    let refused = shop.admin.ask("PATCH", &path, Some(&shop.seven), &[], Some(r#"{"filter":null}"#)).await;
    assert!([403, 422].contains(&refused.status.as_u16()), "{refused:?}");
    assert!(refused.text.contains("filter"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_never_matched_is_not_redelivered() {
    let shop = Shop::open().await;
    let id = shop.subscribe("/ok/seven", json!(["*"])).await;
    shop.change(1).await;
    shop.got_only_own("/ok/seven", 1).await;
    // Both answers are those about an invented event.
    let invented = "evt_0123456789abcdef";
    let mut answers = Vec::new();
    for event in [
        invented.to_owned(),
        shop.event("of customer 8").await,
        shop.event("of no owner").await,
        shop.event("internal").await,
    ] {
        let path = format!("/v1/deliveries/{event}/{id}/redeliver");
        let refused = shop.admin.post(&path, &shop.seven, "").await;
        let pull = format!("/v1/subscriptions/{id}/events?after={event}");
        let pulled = shop.admin.get(&pull, &shop.seven).await;
        answers.push([refused, pulled].map(|answer| {
            names_nothing_of_others(&answer);
            (answer.status.as_u16(), answer.text.replace(&event, invented))
        }));
    }
    assert_eq!(answers[0].each_ref().map(|(status, _)| *status), [404, 404], "{answers:?}");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    let pull = format!("/v1/subscriptions/{id}/events?after={}", shop.event("of customer 7").await);
    assert_eq!(shop.admin.get(&pull, &shop.seven).await.status, 200);
    let own = shop.event("of customer 7").await;
    let answer = shop.admin.post(&format!("/v1/deliveries/{own}/{id}/redeliver"), &shop.seven, "").await;
    assert_eq!(answer.status, 202, "{answer:?}");
    shop.world.receiver.wait("the redelivery", PATIENCE, |record| record.total == 2).await;
    shop.got_only_own("/ok/seven", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_about_a_subscription_are_its_owners() {
    let shop = Shop::open().await;
    let own = shop.subscribe("/ok/seven", json!(["webhook.subscription.*", "webhook.delivery.*"])).await;
    let other = shop
        .world
        .subscribe_with("/status/500", "owner => '8', retry => '{}', events => '{invoice.*}'")
        .await;
    shop.world.database.run(&format!("select webhook_alter({other}, name => 'of customer 8')")).await;
    shop.change(1).await;
    let given_up =
        "select exists (select from webhook.event where type = 'webhook.delivery.exhausted' and owner = '8')";
    shop.world.database.until(given_up, PATIENCE).await;
    shop.world.database.run(&format!("select webhook_alter({own}, name => 'mine')")).await;
    shop.world.receiver.wait_for("/ok/seven", 1, PATIENCE).await;
    for request in shop.world.receiver.at("/ok/seven") {
        let body: Value = serde_json::from_slice(&request.body).expect("JSON");
        assert_eq!(body["data"]["id"], own, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_the_daemon_and_numbers_are_limited() {
    let shop = Shop::open().await;
    shop.world
        .database
        .run(
            "insert into webhook.owner_limit (owner, subscriptions, max_in_flight, external_secrets, tls_profiles)
             values ('*', 2, 4, false, false)",
        )
        .await;
    let url = shop.world.receiver.url("/ok/seven");
    for (option, value) in [
        ("secret", json!("env:WEBHOOKD_SECRET_BILLING")),
        ("secret", json!("file:/etc/passwd")),
        ("max_in_flight", json!(4096)),
        ("tls", json!("internal")),
    ] {
        let mut body = json!({"url": url, "events": ["*"]});
        body[option] = value;
        let refused = shop.admin.post("/v1/subscriptions", &shop.seven, &body.to_string()).await;
        assert_eq!(refused.status, 422, "{option}: {refused:?}");
        assert!(refused.text.contains(option), "{option}: {refused:?}");
    }
    for _ in 0..2 {
        shop.subscribe("/ok/seven", json!(["*"])).await;
    }
    let body = json!({"url": url, "events": ["*"]}).to_string();
    let refused = shop.admin.post("/v1/subscriptions", &shop.seven, &body).await;
    assert!([403, 422].contains(&refused.status.as_u16()), "{refused:?}");
    assert!(refused.text.contains("subscriptions") && refused.text.contains('2'), "{refused:?}");
    let kept =
        shop.world.database.number("select count(*) from webhook.subscription where owner = '7'").await;
    assert_eq!(kept, 2, "nothing more is stored");
    let ours = json!({"url": url, "events": ["*"], "max_in_flight": 4096}).to_string();
    assert_eq!(shop.admin.post("/v1/subscriptions", &shop.ops, &ours).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn types_that_a_customer_cannot_get_are_not_shown() {
    let shop = Shop::open().await;
    for path in ["/v1/event-types", "/v1/openapi.json", "/docs", "/subscriptions/new"] {
        let answer = match path.starts_with("/v1/") {
            true => shop.admin.get(path, &shop.seven).await,
            false => {
                let cookie = shop.admin.cookie(&shop.seven).await;
                shop.admin.ask("GET", path, None, &[("cookie", &cookie)], None).await
            }
        };
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        for word in ["fraud_score", "employee", "salaries", "order.created"] {
            assert!(!answer.text.contains(word), "{path} names {word}");
        }
    }
    let types = shop.admin.get("/v1/event-types", &shop.seven).await;
    assert!(types.text.contains("invoice.created"), "{types:?}");
    let cookie = shop.admin.cookie(&shop.seven).await;
    let page = shop.admin.ask("GET", "/docs", None, &[("cookie", &cookie)], None).await;
    for words in ["public.invoice", "A row was"] {
        assert!(!types.text.contains(words) && !page.text.contains(words), "{words}: {types:?} {page:?}");
    }
    let all = shop.admin.get("/v1/event-types", &shop.ops).await;
    assert!(all.text.contains("fraud_score.created") && all.text.contains("employee.created"), "{all:?}");
    assert!(all.text.contains("public.invoice") && all.text.contains("A row was"), "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_reads_and_pulls_only_own_events() {
    let shop = Shop::open().await;
    let id = shop.subscribe("/ok/seven", json!(["*"])).await;
    shop.change(1).await;
    shop.got_only_own("/ok/seven", 1).await;
    for path in
        ["/v1/events".to_owned(), format!("/v1/subscriptions/{id}/events"), "/v1/deliveries".to_owned()]
    {
        let answer = shop.admin.get(&path, &shop.seven).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        names_nothing_of_others(&answer);
        assert!(answer.text.contains("invoice.created"), "{path}: {answer:?}");
    }
    for note in ["of customer 8", "of no owner", "internal"] {
        let event = shop.event(note).await;
        let answer = shop.admin.get(&format!("/v1/events/{event}"), &shop.seven).await;
        assert_eq!(answer.status, 404, "{note}: {answer:?}");
        let answer = shop.admin.get(&format!("/v1/deliveries/{event}/{id}"), &shop.seven).await;
        assert_eq!(answer.status, 404, "{note}: {answer:?}");
    }
    let own = shop.event("of customer 7").await;
    assert_eq!(shop.admin.get(&format!("/v1/events/{own}"), &shop.seven).await.status, 200);
}
