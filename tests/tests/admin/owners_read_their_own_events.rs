//! Promise: an owner reads its own events and announcements through `/v1/events`, and no byte of
//! other events.

use e2e::{
    admin::{Admin, token},
    world::World,
};
use serde_json::Value;
use std::collections::BTreeSet;

/// Emits events of four owners in turn, announcements, and events of an internal type.
const EVENTS: &str = "
    insert into webhook.event_type (type, internal) values ('fraud.scored', true);
    do $$ begin
        for i in 1..400 loop
            perform webhook_emit('order.created', jsonb_build_object('secret_of', 't' || i % 4), i::text, owner => 't' || i % 4);
            if i % 100 = 0 then
                perform webhook_emit('news.published', '{}'::jsonb, i::text, owner => '*');
                perform webhook_emit('fraud.scored', '{\"score\": 7}'::jsonb, i::text, owner => 't1');
                perform webhook_emit('order.lost', '{}'::jsonb, i::text);
            end if;
        end loop;
    end $$";

/// Reads all pages of a list.
async fn all(admin: &Admin, path: &str, token: &str) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    for _ in 0..100 {
        let page = admin.get(&format!("{path}{cursor}"), token).await;
        assert_eq!(page.status, 200, "{page:?}");
        let page = page.json();
        items.extend(page["items"].as_array().expect("items").iter().cloned());
        let Some(next) = page["next"].as_str() else { return items };
        cursor = format!("&cursor={next}");
    }
    panic!("{path} has no end");
}

fn keys(items: &[Value]) -> Vec<i64> {
    items.iter().map(|item| item["key"].as_str().and_then(|key| key.parse().ok()).expect("a key")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn page_by_page_and_one_by_one() {
    let world = World::new().await;
    let database = &world.database;
    Admin::roles(database).await;
    database.run(EVENTS).await;
    database.run("create role t2; grant t2 to alice").await;
    let of_owner = |owner: &str| token(database, &["--role", "tenants", "--owner", owner]);
    let (one, two, none) = (of_owner("t1"), of_owner("t2"), of_owner("stranger"));
    let (alice, clerk) = (token(database, &["--role", "alice"]), token(database, &["--role", "clerk"]));
    let admin = Admin::start(database, &[]).await;

    let own = all(&admin, "/v1/events?limit=7&type=*", &one).await;
    let orders: Vec<Value> = own.iter().filter(|one| one["type"] == "order.created").cloned().collect();
    let want: Vec<i64> = (1..=400).rev().filter(|i| i % 4 == 1).collect();
    assert_eq!(keys(&orders), want, "all of its own, newest first, once");
    let types: BTreeSet<&str> = own.iter().filter_map(|one| one["type"].as_str()).collect();
    assert_eq!(types, BTreeSet::from(["news.published", "order.created"]), "no internal type");
    assert_eq!(own.len(), 104);
    assert_eq!(all(&admin, "/v1/events?limit=200&type=*", &two).await.len(), 104);
    // A role that is a member of the owner's role.
    assert_eq!(all(&admin, "/v1/events?limit=200&type=*", &alice).await.len(), 104);
    assert_eq!(all(&admin, "/v1/events?limit=200&type=*", &none).await.len(), 4, "announcements");
    assert_eq!(all(&admin, "/v1/events?limit=200&type=order.*", &clerk).await.len(), 404);

    // The search has the same parameters.
    assert_eq!(keys(&all(&admin, "/v1/events?limit=7&key=5", &one).await), [5]);
    assert_eq!(all(&admin, "/v1/events?limit=7&key=6", &one).await.len(), 0, "another owner's");
    assert_eq!(all(&admin, "/v1/events?limit=7&type=news.*", &one).await.len(), 4);
    assert_eq!(all(&admin, "/v1/events?limit=7&until=2020-01-01", &one).await.len(), 0);
    let wrong = admin.get("/v1/events?since=yesterday-ish", &one).await;
    assert_eq!((wrong.status.as_u16(), wrong.json()["field"].as_str()), (422, Some("since")));

    for item in all(&admin, "/v1/events?limit=200&type=*", &clerk).await {
        let (id, kind) = (item["id"].as_str().expect("an id"), item["type"].as_str().expect("a type"));
        let key: i64 = item["key"].as_str().and_then(|key| key.parse().ok()).unwrap_or_default();
        if key % 20 > 1 {
            continue;
        }
        let is_own = kind == "news.published" || (kind == "order.created" && key % 4 == 1);
        let answer = admin.get(&format!("/v1/events/{id}"), &one).await;
        assert_eq!(answer.status, if is_own { 200 } else { 404 }, "{item}: {answer:?}");
        assert!(
            !answer.text.contains("secret_of") || answer.json()["data"]["secret_of"] == "t1",
            "{answer:?}"
        );
        let (path, cookie) = (format!("/events/{id}"), admin.cookie(&one).await);
        let page = admin.ask("GET", &path, None, &[("cookie", &cookie)], None).await;
        assert_eq!(page.status, if is_own { 200 } else { 404 }, "{item}");
    }
}

/// A caller must not learn values of other owners through its own functions and operators.
#[tokio::test(flavor = "multi_thread")]
async fn not_through_a_function_in_a_condition() {
    let world = World::new().await;
    let database = &world.database;
    Admin::roles(database).await;
    database.run(EVENTS).await;
    database
        .run(
            "alter role alice login; create schema spy; grant usage, create on schema spy to alice;
             create role t1; grant t1 to alice",
        )
        .await;
    let session = database.try_client("alice").await.expect("she may connect");
    session
        .batch_execute(
            "create table spy.seen (text text);
             create function spy.look(value text) returns boolean language plpgsql cost 0.0001 as
                 $$ begin insert into spy.seen values (value); return true; end $$",
        )
        .await
        .expect("she may create them");
    let query = "select count(*) from webhook.owned_event e where spy.look(e.payload::text)";
    let row = session.query_one(query, &[]).await.expect("she may read");
    assert_eq!(row.get::<_, i64>(0), 104);
    let seen = "select count(*) from spy.seen where text ~ 't[023]|score'";
    assert_eq!(database.number(seen).await, 0, "her function saw no other event");
    let refused = session.query("select * from webhook.event", &[]).await.expect_err("she is no reader");
    assert_eq!(refused.code().map(|code| code.code()), Some("42501"));
}
