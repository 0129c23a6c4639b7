//! What each page takes for granted: the tables, roles and events that its reader has already.

use super::{block::Block, example, tenants, world::World};
use e2e::{PATIENCE, foreign};

/// Prepares the world of a page.
pub async fn prepare(world: &mut World, page: &str) {
    match page {
        "docs/SQL.md" => sql(world).await,
        "docs/RECEIVING.md" => receiving(world).await,
        "docs/EVENTS.md" => events(world).await,
        "docs/TENANTS.md" => tenants::prepare(world).await,
        "docs/monitoring/METRICS.md" => metrics(world).await,
        _ => {}
    }
}

/// Does what happens outside the page before a block.
pub async fn before(world: &mut World, page: &str, block: &Block) {
    match (page, block.heading.as_str()) {
        ("docs/OPERATIONS.md", "The command line") => an_event(world).await,
        ("docs/OPERATIONS.md", "Runbook") => exhausted(world).await,
        ("docs/TENANTS.md", "The same over REST") => tenants::visit(world).await,
        _ => {}
    }
}

/// Returns what is wrong with the examples of a page, taken together.
pub async fn after(world: &mut World, page: &str) -> Vec<String> {
    match page {
        "docs/RECEIVING.md" => [example::conform(world).await, example::every_format(world).await].concat(),
        _ => Vec::new(),
    }
}

async fn sql(world: &mut World) {
    world.prepare("create extension pg_webhook;").await;
    let public = world.prepare_shell("webhookd keygen webhookd.key").await;
    world.name("webhookd_public_…", public.trim());
    let key = world.folder.path().join("webhookd.key").to_str().expect("a path of text").to_owned();
    world.deliver(&["--key-file", &key]).await;
}

/// The orders of the examples, and a daemon with the key that the page has made.
async fn orders_are_delivered(world: &mut World) {
    world
        .prepare(
            "create table if not exists orders (id bigint primary key, total numeric);
             select webhook_watch('orders', noun => 'order');",
        )
        .await;
    let key = world.folder.path().join("etc/webhookd.key").to_str().expect("a path of text").to_owned();
    world.deliver(&["--probe-interval-ms", "200", "--key-file", &key]).await;
}

/// An event that the command line can show and send again.
async fn an_event(world: &mut World) {
    orders_are_delivered(world).await;
    let url = world.receiver.url("/ok/orders");
    let subscribe =
        format!("select webhook_subscribe('{url}') where not exists (select from webhook.subscription);");
    world.prepare(&subscribe).await;
    let insert = "insert into orders values (1, 10) on conflict (id) do update set total = orders.total + 1;";
    world.prepare(insert).await;
    world.receiver.wait_for("/ok/orders", 1, PATIENCE).await;
    let recorded = "select exists (select from webhook.attempt)";
    world.database.until(recorded, PATIENCE).await;
    let id = "select webhook.public_id(id, created_at) from webhook.event where type = 'order.created';";
    world.prepare(id).await;
}

/// The receiver of the runbook: it fails, and the daemon has given up an event.
async fn exhausted(world: &mut World) {
    orders_are_delivered(world).await;
    let url = world.receiver.url("/status/500");
    let options = "name => 'failing', ordering => 'key', retry => '{100ms}'";
    world
        .prepare(&format!("select id as subscription from webhook_subscribe('{url}', {options}) \\gset"))
        .await;
    world.prepare("insert into orders values (-1, 1), (-2, 2);").await;
    let given_up = "select count(*) >= 1 from webhook.delivery where state = 'exhausted'";
    world.database.until(given_up, PATIENCE).await;
    world
        .prepare("select event_id as event from webhook.delivery where state = 'exhausted' limit 1 \\gset")
        .await;
}

async fn receiving(world: &mut World) {
    world.prepare("create extension pg_webhook; create table seen (webhook_id text primary key); create table orders (id bigint primary key, status text, total numeric);").await;
    world
        .prepare("select webhook_watch('orders', noun => 'order', verbs => '{\"update\":\"updated\"}');")
        .await;
    world.prepare("insert into orders values (17, 'open', 1.50);").await;
    for format in ["cloudevents-structured", "cloudevents-binary", "form", "raw", "supabase", "hasura"] {
        let url = world.receiver.url(&format!("/ok/{format}"));
        world
            .prepare(&format!("select webhook_subscribe('{url}', '{{order.*}}', format => '{format}');"))
            .await;
    }
    let url = world.receiver.url("/handshake/any");
    let handshake = "verification => 'handshake', rate_limit => 5";
    world.prepare(&format!("select webhook_subscribe('{url}', '{{order.*}}', {handshake});")).await;
    let url = world.receiver.url("/ok/hooks");
    world.prepare(&format!("select secret from webhook_subscribe('{url}', '{{order.*}}');")).await;
    world.deliver(&["--origin", "hooks.example.com"]).await;
    world.prepare("begin; set local webhook.actor = 'user:7'; update orders set status = 'paid' where id = 17; commit;").await;
    world.receiver.wait_for("/ok/hooks", 1, PATIENCE).await;
    let request = world.receiver.at("/ok/hooks").remove(0);
    std::fs::write(world.folder.path().join("body"), &request.body).expect("it can be written");
    let header = |name: &str| request.header(name).expect("a header").to_owned();
    let (id, timestamp, signature) =
        (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
    world.name("webhook-id: evt_…", &format!("webhook-id: {id}"));
    world.name("webhook-timestamp: …", &format!("webhook-timestamp: {timestamp}"));
    world.name("webhook-signature: v1,…", &format!("webhook-signature: {signature}"));
    let secret = world.localize("whsec_…");
    world.prepare(&format!("\\set secret {secret}\n\\set id {id}\n\\set timestamp {timestamp}\n\\set signature {signature}\n\\set body `cat {}`", world.folder.path().join("body").display())).await;
    let modules = foreign::node_modules();
    world
        .prepare_shell(&format!(
            "export SECRET={secret} WEBHOOK_SECRET={secret}; ln -s {} node_modules",
            modules.canonicalize().expect("it is there").display()
        ))
        .await;
}

async fn events(world: &mut World) {
    world
        .prepare(
            "create extension pg_webhook; create table orders (id bigint primary key, status text not null check (status in ('open', 'paid')), total numeric not null);
             select webhook_watch('orders', noun => 'order', verbs => '{\"insert\":\"created\"}');",
        )
        .await;
    let url = world.database.url();
    world.prepare_shell(&format!("export DATABASE_URL={url}")).await;
}

async fn metrics(world: &mut World) {
    world.prepare("create extension pg_webhook; create role webhookd login; select webhook_grant('webhookd', 'dispatcher');").await;
}
