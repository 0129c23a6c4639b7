//! Pictures of what an operator sees: the page at 390 and 1280 pixels, light and dark, and the
//! output of `webhookd status`, with six receivers of which four need help. Then the page of a
//! customer.
//!
//! Usage: `shots FOLDER [SECONDS]`. It uses the variables of the end-to-end tests. SECONDS (default
//! 60) pass after the receivers have fallen ill, so that the plots have something to show.

use e2e::{
    PATIENCE,
    admin::{Admin, token},
    ailing,
    browser::Browser,
    daemon::binary,
    portal,
    world::World,
};
use std::{
    error::Error,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tokio::time::{Instant, interval};

/// Orders before the pictures. Seven of eight are given up by one receiver.
const ORDERS: i64 = 816;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("usage: shots FOLDER [SECONDS]")?);
    let seconds = arguments.next().map_or(Ok(60), |text| text.parse())?;
    std::fs::create_dir_all(&folder)?;
    let world = World::new().await;
    Admin::roles(&world.database).await;
    ailing::subscribe(&world).await;
    let admin = Admin::start(&world.database, &["--admin-open-as", "ops"]).await;
    ailing::fall_ill(&world, 1, ORDERS).await;
    traffic(&world, Duration::from_secs(seconds)).await;

    let status = Command::new(binary()).args(["status", "--database-url", &world.database.url()]).output()?;
    assert!(status.status.success(), "{status:?}");
    std::fs::write(folder.join("status.txt"), status.stdout)?;
    let id = world.database.number("select id from webhook.subscription where name = 'billing'").await;
    let pages = [
        ("overview", "/".to_owned()),
        ("subscriptions", "/subscriptions".to_owned()),
        ("subscription", format!("/subscriptions/{id}")),
        ("deliveries", "/deliveries?state=exhausted".to_owned()),
    ];
    let browser = Browser::start(&admin.url).await;
    for (width, height) in [(390, 844), (1280, 900)] {
        for scheme in ["light", "dark"] {
            for (name, path) in &pages {
                browser.look(width, height, scheme).await;
                browser.go(path).await;
                let whole = browser.run("return document.documentElement.scrollHeight").await;
                let whole = whole.as_u64().and_then(|pixels| u32::try_from(pixels).ok()).unwrap_or(height);
                browser.look(width, whole.clamp(height, 4000), scheme).await;
                browser.picture_in(&folder, &format!("{name}-{width}-{scheme}")).await;
            }
        }
    }
    browser.close().await;
    // Otherwise the next daemon would be a standby.
    assert!(admin.daemon.sigterm(PATIENCE).await.success());
    customer(&world, &folder).await;
    Ok(())
}

/// Takes the pictures of the page of a customer, whose endpoint fails.
async fn customer(world: &World, folder: &Path) {
    world
        .database
        .run("grant tenants to ops; select webhook_watch('orders', noun => 'order', owner_column => 'customer')")
        .await;
    let ops = token(&world.database, &["--role", "ops"]);
    let settings = portal::Settings::with("accent_color = '#7a1fa2'");
    let admin = settings.start(&world.database).await;
    let id = world.subscribe_with("/status/503/customer", "name => 'Warehouse', owner => 'c'").await;
    world.subscribe_with("/ok/customer", "name => 'Accounting', owner => 'c'").await;
    world.insert_orders(1_000_000, 5).await;
    let failed = format!("select exists (select from webhook.attempt where subscription_id = {id})");
    world.database.until(&failed, PATIENCE).await;
    let event = format!("select event_id from webhook.delivery where subscription_id = {id} limit 1");
    let event = world.database.text(&event).await.unwrap_or_default();
    let link = portal::link(&admin, &ops, "c").await;
    let session = portal::open(&admin, &portal::link(&admin, &ops, "c").await).await;
    let pages = [
        ("link", link),
        ("endpoints", session.clone()),
        ("new", format!("{session}/subscriptions/new")),
        ("endpoint", format!("{session}/subscriptions/{id}")),
        ("deliveries", format!("{session}/deliveries")),
        ("delivery", format!("{session}/deliveries/{event}/{id}")),
        ("events", format!("{session}/docs")),
        ("expired", "/portal".to_owned()),
    ];
    let browser = Browser::start(&admin.url).await;
    for width in [390, 1280] {
        for scheme in ["light", "dark"] {
            for (name, path) in &pages {
                browser.look(width, 900, scheme).await;
                browser.go(path).await;
                browser.picture_in(folder, &format!("customer-{name}-{width}-{scheme}")).await;
            }
        }
    }
    browser.close().await;
}

/// Inserts an order ten times a second.
async fn traffic(world: &World, duration: Duration) {
    let end = Instant::now() + duration;
    let mut pace = interval(Duration::from_millis(100));
    for order in ORDERS + 1.. {
        pace.tick().await;
        if Instant::now() > end {
            return;
        }
        world.insert_orders(order, 1).await;
    }
}
