//! Promise: people can use the whole page in a browser with a keyboard, on a narrow screen, in dark
//! mode and with a screen reader, and can read it without JavaScript. It never violates its own
//! content security policy.

use e2e::{
    PATIENCE,
    admin::{Admin, token},
    browser::Browser,
    daemon::Daemon,
    world::World,
};
use serde_json::json;

async fn enter(browser: &Browser, token: &str) {
    browser.go("/login").await;
    browser.fill("Token", token).await;
    browser.press("Sign in").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_lives_through_it() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    world.orders_belong_to("alice").await;
    let alice = token(&world.database, &["--role", "alice"]);
    let admin = Admin::start(&world.database, &[]).await;
    let browser = Browser::start(&admin.url).await;

    browser.go("/").await;
    assert_eq!(browser.path().await, "/login", "an unknown visitor is not let in");
    browser.fill("Token", "whtok_nonsense").await;
    browser.press("Sign in").await;
    browser.until_it_says("A token starts with whtok_").await;
    enter(&browser, &alice).await;
    assert_eq!(browser.path().await, "/");

    // A subscription is created, after a mistake at first.
    browser.go("/subscriptions/new").await;
    let url = world.receiver.url("/ok/page");
    browser.fill("URL", &url).await;
    browser.fill("Name", "by hand").await;
    browser.fill("Timeout", "never").await;
    browser.press("Create").await;
    browser.until_it_says("invalid input syntax for type interval").await;
    browser.picture("mistake").await;
    browser.fill("Timeout", "PT5S").await;
    browser.press("Create").await;
    let shown = browser.text().await;
    let secret = shown.split_whitespace().find(|word| word.starts_with("whsec_")).expect("it is shown once");
    world.receiver.expect_secret("/ok/page", secret);
    browser.picture("secret").await;
    browser.press("Go to the subscription").await;
    assert!(!browser.text().await.contains("whsec_"), "once");

    // Changes appear as they happen, without a reload.
    browser.go("/deliveries").await;
    world.insert_orders(1, 3).await;
    world.receiver.wait_for("/ok/page", 3, PATIENCE).await;
    browser.until_it_says("order.created").await;
    browser.until_it_says("delivered").await;

    let id = world.database.number("select id from webhook.subscription").await;
    let path = format!("/subscriptions/{id}");
    browser.go(&path).await;
    browser.fill("Reason", "lunch").await;
    browser.press("Pause").await;
    browser.until_it_says("lunch").await;
    world.insert_orders(4, 1).await;
    browser.press("Resume").await;
    world.receiver.wait_for("/ok/page", 4, PATIENCE).await;
    browser.press("Send a ping").await;
    world.receiver.wait_for("/ok/page", 5, PATIENCE).await;
    browser.press("Rotate secret").await;
    assert!(!browser.text().await.contains("whsec_"), "it asks first");
    browser.press("Rotate the secret").await;
    assert!(browser.text().await.contains("whsec_"));
    browser.go(&path).await;
    browser.fill("Name", "renamed").await;
    browser.press("Save").await;
    browser.until_it_says("renamed").await;

    // A delivery is searched, viewed and sent again.
    let event =
        world.database.text("select event_id from webhook.delivery where key = '2'").await.expect("an event");
    browser.fill("Event id or key", &event).await;
    browser.press("Search").await;
    browser.click(&format!("a[href='/deliveries/{event}/{id}']")).await;
    browser.until_it_says("succeeded").await;
    browser.press("Redeliver").await;
    let again = "select count(*) = 6 from webhook.attempt where outcome = 'succeeded'";
    world.database.until(again, PATIENCE).await;

    browser.go(&path).await;
    browser.press("Delete subscription").await;
    browser.press("Delete for good").await;
    assert_eq!(browser.path().await, "/subscriptions");
    assert_eq!(world.database.number("select count(*) from webhook.subscription").await, 0);
    let complaints: Vec<String> = browser
        .console()
        .await
        .into_iter()
        .filter(|line| !line.contains("the server responded with a status of 4"))
        .collect();
    assert_eq!(complaints, [] as [String; 0]);
    browser.press("Sign out").await;
    browser.go("/subscriptions").await;
    assert_eq!(browser.path().await, "/login");
    browser.close().await;
}

/// Creates a world with content for every page: successful and failed deliveries, with hostile
/// answers.
async fn furnished() -> (World, Admin, Vec<String>) {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let id = world.subscribe_with("/nul/1", "retry => '{}'").await;
    world.subscribe("/ok").await;
    let admin = Admin::start(&world.database, &["--admin-open-as", "ops"]).await;
    let client = world.database.client().await;
    let hostile =
        "<script>alert(1)</script></pre></main><img src=http://evil.example/x onerror=alert(2)>\u{202e}";
    client
        .execute("insert into orders values (1, $1, 1, $1)", &[&hostile])
        .await
        .expect("a value may be anything");
    world
        .database
        .until(
            "select count(*) = 2 from webhook.delivery where state in ('exhausted', 'delivered')",
            PATIENCE,
        )
        .await;
    // Without events that may still get deliveries, a slow search has no next page.
    world.database.until("select not exists (select from webhook.beyond_checkpoint)", PATIENCE).await;
    client
        .execute("update webhook.attempt set response = $1 || repeat('A', 3000), error = $1 where subscription_id = $2", &[&hostile, &id])
        .await
        .expect("what a receiver may have said");
    let event = world.database.text("select event_id from webhook.delivery limit 1").await.expect("an event");
    let paths = vec![
        "/".to_owned(),
        "/subscriptions".to_owned(),
        "/subscriptions/new".to_owned(),
        format!("/subscriptions/{id}"),
        "/events".to_owned(),
        format!("/events/{event}"),
        "/deliveries".to_owned(),
        "/deliveries?state=exhausted".to_owned(),
        format!("/deliveries/{event}/{id}"),
        "/nowhere".to_owned(),
    ];
    (world, admin, paths)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_accessible() {
    let (_world, admin, paths) = furnished().await;
    let browser = Browser::start(&admin.url).await;
    for (width, height, scheme) in [(1280, 900, "light"), (1280, 900, "dark"), (360, 740, "light")] {
        browser.look(width, height, scheme).await;
        for path in &paths {
            browser.go(path).await;
            let name = path.trim_matches('/').replace(['/', '?'], "_");
            browser.picture(&format!("{width}-{scheme}-{name}")).await;
            assert_eq!(browser.barriers().await, [] as [String; 0], "{path}, {width} px, {scheme}");
            let over = browser.run("return document.documentElement.scrollWidth - innerWidth").await;
            assert!(over.as_i64().expect("pixels") <= 0, "{path} is {over} px wider than {width}");
        }
    }
    let complaints: Vec<String> =
        browser.console().await.into_iter().filter(|line| !line.contains("/nowhere")).collect();
    assert_eq!(complaints, [] as [String; 0], "nothing breaks the policy, and no script fails");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_page_reports_that_it_is_out_of_date() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let ops = token(&world.database, &["--role", "ops"]);
    let admin = Admin::start(&world.database, &[]).await;
    let address = admin.url.trim_start_matches("http://").to_owned();
    let browser = Browser::start(&admin.url).await;
    browser.look(1280, 900, "light").await;
    enter(&browser, &ops).await;
    let stale = async |why: &str| {
        browser.until_it_says(why).await;
        let text = browser.text().await;
        assert!(text.contains("Not updated since "), "{text}");
        assert!(
            !text.contains("webhookd is running and delivers."),
            "it does not claim what it cannot know: {text}"
        );
    };
    let renewed = async || {
        browser.until_gone(".stale").await;
        browser.until_it_says("webhookd is running and delivers.").await;
        assert!(!browser.text().await.contains("Not updated since "));
    };
    renewed().await;

    // The database stops and returns, and the page says so.
    world.cluster.stop().await;
    stale("the database is not available").await;
    assert_eq!(browser.barriers().await, [] as [String; 0]);
    browser.picture("stale-1280-light").await;
    browser.look(360, 740, "dark").await;
    browser.picture("stale-360-dark").await;
    // The stream fails too, and a reconnect gets an error until the database is back.
    browser.run("stream.dispatchEvent(new Event('error'))").await;
    world.cluster.boot().await;
    renewed().await;

    // The daemon stops and returns too.
    admin.daemon.kill9().await;
    stale("webhookd does not answer").await;
    let arguments = ["--allow-net", "127.0.0.0/8", "--admin", &address];
    let daemon = Daemon::spawn_with(&world.database.url_as("daemon"), &arguments);
    daemon.ready(&world.database).await;
    // Sessions end with their process.
    stale("your session has ended").await;
    enter(&browser, &ops).await;
    renewed().await;

    // The visitor's token expires.
    world.database.run("update webhook.token set expires_at = now()").await;
    stale("your session has ended").await;
    browser.picture("signed-out-360-dark").await;
    browser.press("Sign in again").await;
    assert_eq!(browser.path().await, "/login");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyboard_is_enough() {
    let (_world, admin, _) = furnished().await;
    let browser = Browser::start(&admin.url).await;
    browser.go("/subscriptions").await;
    browser.keys("\u{e004}").await;
    assert_eq!(browser.focused().await, "Skip to content", "first of all");
    browser.keys("\u{e007}").await;
    assert!(browser.path().await.ends_with("#main"));
    // Tab leads from there to the page's main action.
    for _ in 0..20 {
        browser.keys("\u{e004}").await;
        if browser.focused().await == "Create a subscription" {
            break;
        }
    }
    let outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle").await;
    assert_ne!(outline, json!("none"), "where the focus is can be seen");
    browser.keys("\u{e007}").await;
    browser.element("#url").await;
    assert_eq!(browser.path().await, "/subscriptions/new");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_needs_no_javascript() {
    let (_world, admin, paths) = furnished().await;
    let browser = Browser::start(&admin.url).await;
    let mut with = Vec::new();
    for path in &paths {
        browser.go(path).await;
        with.push(
            browser
                .run("return document.querySelectorAll('main a[href], main td, main dd, main svg').length")
                .await,
        );
    }
    browser.devtools("Emulation.setScriptExecutionDisabled", json!({ "value": true })).await;
    for (path, with) in paths.iter().zip(with) {
        browser.go(path).await;
        let without = browser.count("main a[href], main td, main dd, main svg").await;
        assert_eq!(json!(without), with, "{path}");
    }
    browser.close().await;
}
