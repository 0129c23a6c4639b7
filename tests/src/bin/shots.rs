//! Pictures of what an operator sees: the page at 390 and 1280 pixels, light and dark, and the
//! output of `webhookd status`, with six receivers of which four need help.
//!
//! Usage: `shots FOLDER [SECONDS]`. It uses the variables of the end-to-end tests. SECONDS (default
//! 60) pass after the receivers have fallen ill, so that the plots have something to show.

use e2e::{admin::Admin, ailing, browser::Browser, daemon::binary, world::World};
use std::{error::Error, path::PathBuf, process::Command, time::Duration};
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
    Ok(())
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
