//! Promise: an application of another origin embeds the page of an owner, where the settings list
//! this origin. The customer adds an endpoint there, sees a delivery fail, and redelivers it. Pages
//! of other origins cannot embed it.

use e2e::{
    PATIENCE,
    admin::{Admin, token},
    browser::Browser,
    portal::{Application, Settings, request},
    receiver::Behaviour,
    world::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn from_listed_origins() {
    let world = World::new().await;
    let database = &world.database;
    Admin::roles(database).await;
    database.run("select webhook_watch('orders', noun => 'order', owner_column => 'customer')").await;
    let ops = token(database, &["--role", "ops"]);
    let (listed, other) = (Application::start().await, Application::start().await);
    let admin = Settings::with(&format!("frame_ancestors = ['{}']", listed.url)).start(database).await;
    let url = async || {
        let made = request(&admin, &ops, "c", 30).await;
        made.json()["url"].as_str().expect("a URL").to_owned()
    };

    // The application makes a link when its own customer opens the page. No button is needed there.
    listed.embed(&url().await);
    let browser = Browser::start(&listed.url).await;
    browser.go("/account").await;
    browser.enter_frame().await;
    browser.until_it_says("You have no endpoints").await;
    browser.press("Add an endpoint").await;
    let endpoint = world.receiver.url("/ok/embedded");
    browser.fill("URL", &endpoint).await;
    browser.tick("order.created").await;
    browser.tick("order.updated").await;
    browser.press("Add").await;
    let text = browser.text().await;
    let secret =
        text.split_whitespace().find(|word| word.starts_with("whsec_")).expect("shown once").to_owned();
    world.receiver.expect_secret("/ok/embedded", &secret);
    browser.press("Go to the endpoint").await;

    world.receiver.behave("/ok/embedded", Behaviour::Status(500));
    world.insert_orders(1, 1).await;
    browser.until_it_says("HTTP 500").await;
    browser.picture("embedded").await;
    let event = database.text("select event_id from webhook.delivery").await.expect("an event");
    browser.click(&format!("a[href$='/{event}/1']")).await;
    browser.until_it_says("Request").await;
    world.receiver.behave("/ok/embedded", Behaviour::Ok);
    browser.press("Redeliver").await;
    world.receiver.wait_for("/ok/embedded", 1, PATIENCE).await;
    browser.until_it_says("succeeded").await;
    browser.close().await;

    // Another origin shows nothing, and does not use the link up.
    let unused = url().await;
    other.embed(&unused);
    let browser = Browser::start(&other.url).await;
    browser.go("/account").await;
    browser.enter_frame().await;
    assert!(!browser.source().await.contains("endpoints"), "the browser shows an error instead");
    let unopened = "select count(*) from webhook.portal_link where used_at is null";
    assert_eq!(database.number(unopened).await, 1);
    browser.close().await;
}
