//! Promise: secrets can be sealed with a key, and later with another key, while deliveries
//! continue. A sealed secret is no longer in the database in clear.

use e2e::{
    PATIENCE,
    daemon::{Daemon, binary},
    receiver::SECRET,
    world::World,
};
use standardwebhooks::Webhook;
use std::{path::Path, process::Stdio};
use tokio::process::Command;

async fn webhookd(args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    command.args(args).stdin(Stdio::null()).kill_on_drop(true).env_remove("WEBHOOKD_KEY");
    let output = command.output().await.expect("webhookd can be started");
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains("whsec_") && !text.contains("webhookd_private_"), "{text}");
    (output.status.code(), text)
}

async fn keygen(path: &Path) -> String {
    let (code, public) = webhookd(&["keygen", path.to_str().unwrap()]).await;
    assert_eq!(code, Some(0), "{public}");
    public.trim().to_owned()
}

/// Checks that the requests since the last call are signed with the secret.
fn verified(world: &World, path: &str, seen: &mut usize) {
    let webhook = Webhook::new(SECRET).unwrap();
    let received = world.receiver.at(path);
    assert!(received.len() > *seen);
    for request in &received[*seen..] {
        let headers = request.headers.iter().map(|(name, value)| {
            (http::HeaderName::try_from(name.as_str()).unwrap(), http::HeaderValue::try_from(value).unwrap())
        });
        webhook.verify(&request.body, &headers.collect::<http::HeaderMap>()).expect("the signature holds");
    }
    *seen = received.len();
}

#[tokio::test(flavor = "multi_thread")]
async fn for_a_first_key_and_then_for_another() {
    let world = World::new().await;
    let database = &world.database;
    let dir = tempfile::tempdir().unwrap();
    let (old, new, both) = (dir.path().join("old"), dir.path().join("new"), dir.path().join("both"));
    let (url, mut seen) = (database.url(), 0);
    keygen(&old).await;
    let text = "select secret from webhook.secret where subscription_id = ";
    let id = world.subscribe("/ok").await;
    let health = database.text("select secrets from webhook.health").await.unwrap();
    assert!(health.starts_with("1 in clear"), "{health}");

    // The secret is in clear first, and is then sealed while a daemon with the key runs.
    let old_flag = ["--key-file", old.to_str().unwrap()];
    let arguments = ["--allow-net", "127.0.0.0/8"];
    let daemon = Daemon::spawn_with(&url, &[&arguments[..], &old_flag].concat());
    daemon.ready(database).await;
    world.insert_orders(1, 1).await;
    world.receiver.wait_for("/ok", 1, PATIENCE).await;
    verified(&world, "/ok", &mut seen);
    let (code, told) =
        webhookd(&[&["rekey", "--dry-run", "--database-url", &url][..], &old_flag].concat()).await;
    assert_eq!(code, Some(0));
    assert!(told.starts_with("1 would be sealed"), "{told}");
    assert_eq!(database.text(&format!("{text}{id}")).await.as_deref(), Some(SECRET));
    let (code, told) = webhookd(&[&["rekey", "--database-url", &url][..], &old_flag].concat()).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(told.starts_with("1 sealed for key"), "{told}");
    let sealed = database.text(&format!("{text}{id}")).await.unwrap();
    assert!(sealed.starts_with("sealed:v1:") && !sealed.contains(&SECRET[6..20]), "{sealed}");
    world.insert_orders(2, 1).await;
    world.receiver.wait_for("/ok", 2, PATIENCE).await;
    verified(&world, "/ok", &mut seen);
    let (code, told) = webhookd(&[&["check", "--database-url", &url][..], &old_flag].concat()).await;
    assert!(told.contains("✓ secrets    1 sealed, 0 kept elsewhere"), "{told}");
    assert_eq!(code, Some(0), "{told}");
    assert!(daemon.sigterm(PATIENCE).await.success());

    // A daemon with both keys continues through the rekeying. After it the old key is not needed.
    keygen(&new).await;
    let keys = [&new, &old].map(|path| std::fs::read_to_string(path).unwrap()).concat();
    std::fs::write(&both, keys).unwrap();
    let both_flag = ["--key-file", both.to_str().unwrap()];
    let daemon = Daemon::spawn_with(&url, &[&arguments[..], &both_flag].concat());
    daemon.ready(database).await;
    let (code, told) = webhookd(&[&["rekey", "--database-url", &url][..], &both_flag].concat()).await;
    assert_eq!(code, Some(0), "{told}");
    world.insert_orders(3, 1).await;
    world.receiver.wait_for("/ok", 3, PATIENCE).await;
    verified(&world, "/ok", &mut seen);
    let (_, told) = webhookd(&[&["rekey", "--database-url", &url][..], &both_flag].concat()).await;
    assert!(told.starts_with("0 sealed") && told.contains("1 were already"), "{told}");
    let (code, told) = webhookd(&[&["check", "--database-url", &url][..], &old_flag].concat()).await;
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("✗ secrets    secret of subscription") && told.contains("which is not in the key file"),
        "{told}"
    );

    // From here on every secret is sealed when it is stored, and the health view says so.
    let other = world.subscribe("/ok/other").await;
    let stored = database.text(&format!("{text}{other}")).await.unwrap();
    assert!(stored.starts_with("sealed:v1:"), "{stored}");
    assert_eq!(database.text("select secrets from webhook.health").await.as_deref(), Some("sealed"));

    // A sealed secret that is copied to another subscription signs nothing there, and stops nothing
    // else.
    database
        .run(&format!("update webhook.secret set secret = ({text}{id}) where subscription_id = {other}"))
        .await;
    world.insert_orders(4, 1).await;
    world.receiver.wait_for("/ok", 4, PATIENCE).await;
    verified(&world, "/ok", &mut seen);
    assert_eq!(world.receiver.at("/ok/other").len(), 0, "it is held, like a paused one");
    assert!(daemon.sigterm(PATIENCE).await.success());
    let (code, told) = webhookd(&[&["rekey", "--database-url", &url][..], &both_flag].concat()).await;
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains(&format!("subscription {other}")) && told.contains("nothing has been changed"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn or_kept_out_of_the_database_altogether() {
    let world = World::new().await;
    let database = &world.database;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("orders"), format!("{SECRET}\n")).unwrap();
    // A reference is stored as it is, whether or not secrets are sealed.
    for (path, text) in [("/ok/file", "file:orders"), ("/ok/variable", "env:WEBHOOKD_SECRET_ORDERS")] {
        let id = world.subscribe(path).await;
        let alter = format!("select webhook_alter({id}, secret => '{text}')");
        database.run(&alter).await;
        let stored = format!("select secret from webhook.secret where subscription_id = {id}");
        assert_eq!(database.text(&stored).await.as_deref(), Some(text));
    }
    let (unset, outside) = (world.subscribe("/ok/no").await, world.subscribe("/ok/no").await);
    database.run(&format!("select webhook_alter({unset}, secret => 'env:WEBHOOKD_SECRET_UNSET')")).await;
    // SQL rejects this reference. The daemon does not rely on that.
    database
        .run(&format!(
            "update webhook.secret set secret = 'file:../../etc/hostname' where subscription_id = {outside}"
        ))
        .await;
    let daemon = Daemon::spawn_in(
        &database.url(),
        &["--allow-net", "127.0.0.0/8", "--secrets-dir", dir.path().to_str().unwrap()],
        &[("WEBHOOKD_SECRET_ORDERS", SECRET.as_ref())],
    );
    daemon.ready(database).await;
    world.insert_orders(1, 1).await;
    for path in ["/ok/file", "/ok/variable"] {
        world.receiver.wait_for(path, 1, PATIENCE).await;
        verified(&world, path, &mut 0);
    }
    assert_eq!(world.receiver.at("/ok/no").len(), 0);
    for (id, why) in
        [(unset, "WEBHOOKD_SECRET_UNSET is not set"), (outside, "within the daemon's --secrets-dir")]
    {
        let told = |line: &str| line.contains(&format!("subscription_id={id}")) && line.contains(why);
        daemon.process().wait_for_line(told, PATIENCE).await;
        // The reason is in a view too, so the operator need not search a log.
        let like = why.replace('\'', "''");
        let held =
            format!("select held_because like '%{like}%' from webhook.subscription_stats where id = {id}");
        database.until(&held, PATIENCE).await;
    }
    let reference = "env:WEBHOOKD_SECRET_ORDERS";
    database.run(&format!("select webhook_alter({unset}, secret => '{reference}')")).await;
    let mended = format!("select held_because is null from webhook.subscription_stats where id = {unset}");
    database.until(&mended, PATIENCE).await;
    world.receiver.wait_for("/ok/no", 1, PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
}
