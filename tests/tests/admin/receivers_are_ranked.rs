//! Promise: a person on call sees first which receivers fail, since when and why, and can act on
//! it. Page, REST and `webhookd status` say the same.

use e2e::{
    PATIENCE,
    admin::{Admin, Answer, token},
    ailing::{self, BILLING, CRM, RECEIVERS},
    daemon::binary,
    receiver::Behaviour,
    world::World,
};
use serde_json::Value;

/// A world with the six receivers, and an admin server that is open as an admin.
async fn furnished() -> (World, Admin) {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    ailing::subscribe(&world).await;
    let arguments = ["--admin-open-as", "ops", "--probe-interval-ms", "3600000"];
    let admin = Admin::start(&world.database, &arguments).await;
    ailing::fall_ill(&world, 1, 48).await;
    (world, admin)
}

async fn show(admin: &Admin, path: &str, cookie: &str) -> Answer {
    let answer = admin.ask("GET", path, None, &[("cookie", cookie)], None).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer
}

async fn send(admin: &Admin, path: &str, fields: &[(&str, &str)]) -> Answer {
    let ours = show(admin, "/subscriptions/new", "").await.form_token();
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    text.append_pair("form_token", &ours).extend_pairs(fields);
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    admin.ask("POST", path, None, &headers, Some(&text.finish())).await
}

async fn number(world: &World, name: &str) -> i64 {
    world.database.number(&format!("select id from webhook.subscription where name = '{name}'")).await
}

/// Returns the names of the six in the order of their first appearance in a text.
fn order(text: &str) -> Vec<&'static str> {
    let mut found: Vec<_> =
        RECEIVERS.iter().filter_map(|(name, _)| Some((text.find(&format!(">{name}<"))?, *name))).collect();
    found.sort_unstable();
    found.into_iter().map(|(_, name)| name).collect()
}

fn status(world: &World, arguments: &[&str]) -> String {
    let output = std::process::Command::new(binary())
        .args(["status", "--database-url", &world.database.url()])
        .args(arguments)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_most_urgent_first_everywhere() {
    let (world, admin) = furnished().await;
    let names = RECEIVERS.map(|(name, _)| name);
    for path in ["/", "/subscriptions"] {
        let page = show(&admin, path, "").await.text;
        assert_eq!(order(&page), names, "{path}");
        for words in [
            "1 of 6 receivers is failing; the oldest event has waited ",
            "webhookd gave up 42 deliveries to 1 receiver.",
            "1 is blocked by our settings.",
            "1 is paused.",
            "1 is slow.",
            "HTTP 503 Service Unavailable",
            "blocked: ",
        ] {
            assert!(page.contains(words), "{path} does not say {words:?}: {page}");
        }
        assert!(
            !page.contains("healthy.") && !page.contains("headline now good"),
            "{path} is not green: {page}"
        );
    }
    let rest = admin.ask("GET", "/v1/receivers", None, &[], None).await.json();
    let items = rest["items"].as_array().expect("rows");
    let of = |items: &[Value], key: &str| -> Vec<String> {
        items.iter().map(|one| one[key].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(of(items, "name"), names);
    assert_eq!(of(items, "state"), RECEIVERS.map(|(_, state)| state));
    assert!(items[0]["since"].is_string() && items[0]["next_attempt_at"].is_string(), "{rest}");
    assert!(items.iter().all(|one| one["ages"].is_null()), "ages are for people: {rest}");

    let said = status(&world, &[]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("1 of 6 receivers is failing; "), "{said}");
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{said}");
    let rows: Vec<usize> = names
        .iter()
        .map(|name| lines.iter().position(|line| line.contains(&format!(" {name} (#"))).expect("a row"))
        .collect();
    assert!(rows.is_sorted(), "{said}");
    assert!(lines[rows[0] + 1].contains("HTTP 503 Service Unavailable"), "{said}");
    let json: Value = serde_json::from_str(&status(&world, &["--json"])).expect("JSON");
    assert_eq!(of(json["receivers"].as_array().expect("rows"), "name"), names);
    assert_eq!(json["headline"][1], "webhookd gave up 42 deliveries to 1 receiver.");
    assert!(json["subscriptions"].is_array() && json["health"]["armed"] == true, "as before: {json}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_list_is_filtered_and_paged_by_the_server() {
    let (world, admin) = furnished().await;
    for (query, want) in [
        ("state=failing", &["crm"][..]),
        ("state=healthy", &["search index"]),
        ("q=WARE", &["warehouse"]),
        ("q=10.1.2.3", &["warehouse"]),
        ("q=portal&state=slow", &["legacy portal"]),
        ("q=portal&state=failing", &[]),
        ("q=%25", &[]),
    ] {
        let page = show(&admin, &format!("/subscriptions?{query}"), "").await.text;
        assert_eq!(order(&page), want, "{query}");
        assert!(page.contains("1 of 6 receivers is failing"), "the headline is about all: {query}");
    }
    // The letter is in each name or URL.
    let mut path = "/subscriptions?q=a&limit=2".to_owned();
    let mut found = Vec::new();
    for pages in 1.. {
        let page = show(&admin, &path, "").await.text;
        found.extend(order(&page));
        let Some((_, rest)) = page.split_once("rel=\"next\" href=\"") else {
            assert_eq!(pages, 3);
            break;
        };
        let next = rest.split('"').next().expect("a path").replace("&amp;", "&");
        assert!(next.contains("q=a&limit=2&cursor="), "the filter is kept: {next}");
        path = next;
    }
    assert_eq!(found, RECEIVERS.map(|(name, _)| name));
    for (query, status) in [("state=nonsense", 400), ("cursor=x", 422), ("limit=0", 400)] {
        let answer = admin.ask("GET", &format!("/v1/receivers?{query}"), None, &[], None).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    drop(world);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn try_now_and_redeliver_repair_it() {
    let (world, admin) = furnished().await;
    let (crm, billing) = (number(&world, "crm").await, number(&world, "billing").await);
    let path = format!("/subscriptions/{crm}");
    assert!(show(&admin, &path, "").await.text.contains("Try now"));
    world.receiver.behave(CRM, Behaviour::Ok);
    assert_eq!(send(&admin, &path, &[("action", "try")]).await.status, 303);
    let well = |id: i64| format!("select state = 'healthy' from webhook.subscription_health where id = {id}");
    world.database.until(&well(crm), PATIENCE).await;

    // The first submission counts, and sends nothing.
    let path = format!("/subscriptions/{billing}");
    let failed = |since: &'static str| [("action", "redeliver-failed"), ("since", since)];
    let asked = send(&admin, &path, &failed("-infinity")).await;
    assert_eq!(asked.status, 200);
    assert!(
        asked.text.contains("Redeliver 42 deliveries") && asked.text.contains("Cancel"),
        "{}",
        asked.text
    );
    let later = send(&admin, &path, &failed("tomorrow")).await;
    assert!(later.text.contains("Redeliver 0 deliveries"), "{}", later.text);
    let wrong = send(&admin, &path, &failed("never")).await;
    assert_eq!(wrong.status, 422, "{}", wrong.text);
    let queued = format!("select count(*) from webhook.queue where subscription_id = {billing}");
    assert_eq!(world.database.number(&queued).await, 0);
    world.receiver.behave(BILLING, Behaviour::Ok);
    let done = send(&admin, &path, &[&failed("-infinity")[..], &[("confirmed", "yes")]].concat()).await;
    assert_eq!(done.status, 303);
    world.database.until(&well(billing), PATIENCE).await;
    let delivered = format!(
        "select count(*) = 48 from webhook.delivery where subscription_id = {billing} and state = 'delivered'"
    );
    world.database.until(&delivered, PATIENCE).await;
    let page = show(&admin, "/", "").await.text;
    assert!(!page.contains("gave up") && !page.contains("is failing"), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rotate_and_delete_ask_first() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let id = world.subscribe_with("/ok", "name => 'crm'").await;
    let admin = Admin::start(&world.database, &["--admin-open-as", "ops"]).await;
    let path = format!("/subscriptions/{id}");
    let secrets = "select count(*) from webhook.secret";
    for (action, button) in [("rotate", "Rotate the secret"), ("delete", "Delete for good")] {
        let asked = send(&admin, &path, &[("action", action), ("overlap", "PT1H")]).await;
        assert_eq!(asked.status, 200);
        assert!(asked.text.contains(button) && asked.text.contains(">crm<"), "{}", asked.text);
        assert_eq!(world.database.number(secrets).await, 1, "nothing has happened");
        assert!(action != "rotate" || asked.hidden("overlap") == "PT1H", "{}", asked.text);
        // The second form carries the token too.
        assert_eq!(asked.form_token(), show(&admin, &path, "").await.form_token());
    }
    let rotated =
        send(&admin, &path, &[("action", "rotate"), ("overlap", "PT1H"), ("confirmed", "yes")]).await;
    assert!(rotated.text.contains("whsec_") && world.database.number(secrets).await == 2);
    let deleted = send(&admin, &path, &[("action", "delete"), ("confirmed", "yes")]).await;
    assert_eq!((deleted.status.as_u16(), deleted.header("location")), (303, "/subscriptions"));
    let stranger = send(&admin, &path, &[("action", "delete")]).await;
    assert_eq!(stranger.status, 404, "a question does not reveal what exists");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_tenant_sees_its_own_receivers_and_tabs() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let broken = world
        .subscribe_with("/status/500", "name => 'theirs', owner => 't1', scope => 'all', retry => '{}'")
        .await;
    world.subscribe_with("/ok", "name => 'ours', owner => 't2', scope => 'all'").await;
    let tenant = |owner: &str| token(&world.database, &["--role", "tenants", "--owner", owner]);
    let (one, two) = (tenant("t1"), tenant("t2"));
    let admin = Admin::start(&world.database, &["--admin-open-as", "ops"]).await;
    world.insert_orders(1, 3).await;
    let given_up = format!("select given_up = 3 from webhook.subscription_health where id = {broken}");
    world.database.until(&given_up, PATIENCE).await;
    world.receiver.wait_for("/ok", 3, PATIENCE).await;
    for path in ["/", "/subscriptions"] {
        let own = show(&admin, path, &admin.cookie(&two).await).await.text;
        assert!(own.contains("The receiver is healthy.") && own.contains(">ours<"), "{own}");
        assert!(!own.contains("theirs") && !own.contains("gave up 3"), "{own}");
        let other = show(&admin, path, &admin.cookie(&one).await).await.text;
        assert!(
            other.contains("webhookd gave up 3 deliveries to 1 receiver.") && !other.contains(">ours<"),
            "{other}"
        );
        assert!(show(&admin, path, "").await.text.contains("href=\"/events\""), "an admin may read it");
    }
    // The orders have no owner.
    let events = show(&admin, "/events", &admin.cookie(&two).await).await.text;
    assert!(!events.contains("order.created"), "events of others are not theirs to read: {events}");
    assert!(show(&admin, "/events", "").await.text.contains("order.created"));
    let all = admin.get("/v1/receivers", &two).await.json();
    assert_eq!(all["items"].as_array().map(Vec::len), Some(1), "{all}");
    for path in ["try", "redeliver-failed"] {
        let refused = admin.post(&format!("/v1/subscriptions/{broken}/{path}"), &two, "{}").await;
        assert_eq!(refused.status, 404, "{refused:?}");
    }
}
