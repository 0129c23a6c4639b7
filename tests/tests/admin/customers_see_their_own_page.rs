//! Promise: a customer adds an endpoint, sees what becomes of its events, and repairs it, on a page
//! without any word about the daemon. It works with a keyboard, on a narrow screen, with a screen
//! reader and without JavaScript.

use e2e::{
    PATIENCE,
    admin::{Admin, token},
    browser::Browser,
    portal::{Settings, link},
    receiver::Behaviour,
    world::World,
};
use serde_json::json;

/// Words that a customer has no use for.
const FORBIDDEN: [&str; 8] =
    ["outbox", "checkpoint", "daemon", "webhookd", "postgres", "sqlstate", "pg_webhook", "database"];

const LOGO: &str =
    "<svg xmlns='http://www.w3.org/2000/svg' width='40' height='40'><circle cx='20' cy='20' r='18'/></svg>";

/// Orders belong to the customer that they name, which is `c` for all that the world inserts.
async fn world() -> World {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    world
        .database
        .run(
            "select webhook_watch('orders', noun => 'order', owner_column => 'customer');
             insert into webhook.event_type (type, description) values ('news.published', 'The shop publishes news');
             insert into webhook.event_type (type, description, internal) values ('fraud.scored', 'Fraud', true)",
        )
        .await;
    world
}

fn settings() -> (Settings, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("logo.svg");
    std::fs::write(&file, LOGO).expect("a file");
    (Settings::with(&format!("accent_color = '#ffcc00'\nlogo_file = '{}'", file.display())), directory)
}

async fn check(browser: &Browser, place: &str) {
    let text = browser.text().await.to_lowercase();
    for word in FORBIDDEN {
        assert!(!text.contains(word), "{place} says {word}: {text}");
    }
    assert_eq!(browser.barriers().await, [] as [String; 0], "{place}");
    let over = browser.run("return document.documentElement.scrollWidth - innerWidth").await;
    assert!(over.as_i64().expect("pixels") <= 0, "{place} is {over} px too wide");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_first_endpoint_to_the_last() {
    let world = world().await;
    let database = &world.database;
    let ops = token(database, &["--role", "ops"]);
    let (settings, _directory) = settings();
    let admin = settings.start(database).await;
    let browser = Browser::start(&admin.url).await;

    browser.go(&link(&admin, &ops, "c").await).await;
    check(&browser, "link").await;
    browser.press("Open").await;
    browser.until_it_says("You have no endpoints").await;
    let session = browser.path().await.trim_end_matches('/').to_owned();
    let loaded = browser.run("return document.querySelector('img.logo').naturalWidth").await;
    assert_eq!(loaded, json!(40), "the logo is shown");

    // An endpoint, after two mistakes.
    browser.press("Add an endpoint").await;
    let form = browser.text().await;
    assert!(form.contains("order.created") && form.contains("The shop publishes news"), "{form}");
    assert!(!form.contains("fraud"), "internal types are not offered: {form}");
    browser.fill("URL", "nonsense").await;
    browser.press("Add").await;
    browser.until_it_says("Choose at least one event").await;
    browser.tick("order.created").await;
    browser.press("Add").await;
    browser.until_it_says("url").await;
    check(&browser, "mistake").await;
    browser.fill("URL", &world.receiver.url("/ok/mine")).await;
    browser.fill("Name", "mine").await;
    browser.press("Add").await;
    let secret = browser.text().await;
    let secret =
        secret.split_whitespace().find(|word| word.starts_with("whsec_")).expect("shown once").to_owned();
    world.receiver.expect_secret("/ok/mine", &secret);
    browser.press("Go to the endpoint").await;
    let id = database.number("select id from webhook.subscription").await;
    let stored = database.text("select row(owner, scope, events)::text from webhook.subscription").await;
    assert_eq!(stored.as_deref(), Some("(c,own,{order.created})"));

    // A test event, an order of its own, and none of others.
    browser.press("Send a test event").await;
    world.receiver.wait_for("/ok/mine", 1, PATIENCE).await;
    database.run("insert into orders values (900, 'd', 1, 'for another customer')").await;
    world.insert_orders(1, 1).await;
    world.receiver.wait_for("/ok/mine", 2, PATIENCE).await;
    browser.until_it_says("delivered").await;
    check(&browser, "endpoint").await;

    // It fails, and the page says so by itself.
    world.receiver.behave("/ok/mine", Behaviour::Status(503));
    world.insert_orders(2, 1).await;
    database.until("select exists (select from webhook.delivery where state = 'retrying')", PATIENCE).await;
    browser.until_it_says("retrying").await;
    browser.go(&format!("{session}/deliveries")).await;
    browser.until_it_says("503").await;
    check(&browser, "deliveries").await;
    let event = database
        .text("select event_id from webhook.delivery where state = 'retrying'")
        .await
        .expect("an event");
    browser.click(&format!("a[href='{session}/deliveries/{event}/{id}']")).await;
    browser.until_it_says("HTTP 503").await;
    assert!(browser.text().await.contains("\"order.created\""), "the request is shown");
    check(&browser, "delivery").await;
    world.receiver.behave("/ok/mine", Behaviour::Ok);
    browser.press("Redeliver").await;
    world.receiver.wait_for("/ok/mine", 3, PATIENCE).await;
    browser.until_it_says("succeeded").await;

    // Another event is chosen, and the secret rotated.
    browser.go(&format!("{session}/subscriptions/{id}")).await;
    browser.tick("news.published").await;
    browser.press("Save").await;
    let events = "select array_to_string(events, ' ') from webhook.subscription";
    assert_eq!(database.text(events).await.as_deref(), Some("news.published order.created"));
    browser.press("Rotate secret").await;
    check(&browser, "question").await;
    browser.press("Rotate the secret").await;
    assert!(browser.text().await.contains("whsec_"));

    // What the application has locked is shown, and not offered.
    database.run("select webhook_alter(id, locked => '{url,events}') from webhook.subscription").await;
    browser.go(&format!("{session}/subscriptions/{id}")).await;
    assert_eq!(browser.count("#url, input[name=events]").await, 0);
    browser.until_it_says("Only Shop & Co can change this").await;
    check(&browser, "locked").await;
    browser.fill("Name", "renamed").await;
    browser.press("Save").await;
    browser.until_it_says("renamed").await;

    // The documentation of the events that the customer may have.
    browser.go(&format!("{session}/docs")).await;
    let docs = browser.text().await;
    assert!(docs.contains("order.created") && !docs.contains("fraud"), "{docs}");
    check(&browser, "docs").await;
    browser.click(&format!("a[href='{session}/docs/order.created']")).await;
    browser.until_it_says("Fields of").await;
    check(&browser, "docs of a type").await;

    browser.go(&format!("{session}/subscriptions/{id}")).await;
    browser.press("Delete endpoint").await;
    browser.press("Delete for good").await;
    browser.until_it_says("You have no endpoints").await;
    browser.press("Sign out").await;
    browser.go(&session).await;
    browser.until_it_says("This page has expired").await;
    check(&browser, "expired").await;
    let complaints: Vec<String> =
        browser.console().await.into_iter().filter(|line| !line.contains("with a status of 4")).collect();
    assert_eq!(complaints, [] as [String; 0]);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_every_size_and_without_javascript() {
    let world = world().await;
    let database = &world.database;
    let ops = token(database, &["--role", "ops"]);
    let (settings, _directory) = settings();
    let admin = settings.start(database).await;
    let session = e2e::portal::open(&admin, &link(&admin, &ops, "c").await).await;
    let id = world
        .subscribe_with(
            "/status/500/a-very-long-path-that-does-not-fit-on-a-telephone-without-a-break",
            "owner => 'c', retry => '{}'",
        )
        .await;
    world.insert_orders(1, 3).await;
    database.until("select count(*) = 3 from webhook.delivery where state = 'exhausted'", PATIENCE).await;
    let event = database.text("select event_id from webhook.delivery limit 1").await.expect("an event");
    let paths = [
        String::new(),
        "/subscriptions/new".to_owned(),
        format!("/subscriptions/{id}"),
        "/deliveries".to_owned(),
        format!("/deliveries/{event}/{id}"),
        "/docs".to_owned(),
        "/docs/order.created".to_owned(),
        "/nowhere".to_owned(),
        "/subscriptions/77".to_owned(),
    ];
    let browser = Browser::start(&admin.url).await;
    for (width, scheme) in [(320, "light"), (390, "dark"), (1280, "light"), (1280, "dark")] {
        browser.look(width, 800, scheme).await;
        for path in &paths {
            browser.go(&format!("{session}{path}")).await;
            browser.picture(&format!("portal-{width}-{scheme}-{}", path.replace('/', "_"))).await;
            check(&browser, &format!("{path}, {width} px, {scheme}")).await;
        }
    }
    browser.devtools("Emulation.setScriptExecutionDisabled", json!({ "value": true })).await;
    browser.go(&link(&admin, &ops, "c").await).await;
    browser.click("#open button").await;
    browser.until_it_says("Failed for good").await;
    browser.click("main a.button").await;
    browser.element("input[name=events]").await;
    browser.close().await;
}
