//! Promise: a link to the page of an owner opens once, for one owner, until it expires. Only admins
//! make links, and nothing of ours writes a link or the key of its session down.

use e2e::{
    PATIENCE,
    admin::{Admin, token},
    portal::{Settings, link, open, request},
    receiver::SECRET,
    world::World,
};
use serde_json::json;

const FORM: [(&str, &str); 1] = [("content-type", "application/x-www-form-urlencoded")];

#[tokio::test(flavor = "multi_thread")]
async fn and_the_page_ends_with_it() {
    let world = World::new().await;
    let database = &world.database;
    Admin::roles(database).await;
    let ops = token(database, &["--role", "ops"]);
    let admin = Settings::with("").start(database).await;
    let get = async |path: &str| admin.ask("GET", path, None, &[], None).await;

    // Programs that follow links do not use it up.
    let first = link(&admin, &ops, "t1").await;
    for _ in 0..3 {
        let shown = get(&first).await;
        assert_eq!(shown.status, 200, "{shown:?}");
        assert!(shown.text.contains("Open") && shown.text.contains("Shop &amp; Co"), "{shown:?}");
    }
    assert_eq!(admin.ask("HEAD", &first, None, &[], None).await.status, 200);

    // Of requests at the same time, one opens it.
    let both =
        futures_util::future::join_all((0..4).map(|_| admin.ask("POST", &first, None, &FORM, Some(""))))
            .await;
    let opened: Vec<_> = both.iter().filter(|answer| answer.status == 303).collect();
    assert_eq!(opened.len(), 1, "{both:?}");
    let session = opened[0].header("location").trim_end_matches('/').to_owned();
    assert!(both.iter().all(|answer| [303, 410].contains(&answer.status.as_u16())), "{both:?}");
    for answer in [get(&first).await, admin.ask("POST", &first, None, &FORM, Some("")).await] {
        assert_eq!(answer.status, 410, "{answer:?}");
        assert!(
            answer.text.contains("This link has been used") && answer.text.contains("open the page again")
        );
    }

    // The page, with headers that keep the key from others.
    let page = get(&session).await;
    assert_eq!(page.status, 200, "{page:?}");
    assert_eq!((page.header("referrer-policy"), page.header("cache-control")), ("no-referrer", "no-store"));
    assert!(page.header("content-security-policy").ends_with("frame-ancestors 'none'"));
    assert!(!page.headers.contains_key("set-cookie"));

    // Neither the link nor the key is a token of the API, and no token is a key.
    let key = session.rsplit('/').next().expect("a key").to_owned();
    let link_token = first.rsplit('/').next().expect("a token").to_owned();
    for secret in [&key, &link_token] {
        assert_eq!(admin.get("/v1/subscriptions", secret).await.status, 401);
        assert_eq!(
            admin.ask("POST", "/login", None, &FORM, Some(&format!("token={secret}"))).await.status,
            401
        );
    }
    let tenant = token(database, &["--role", "tenants", "--owner", "t1"]);
    for other in [&tenant, &link_token, &key.replace("whses_", "whses_A")] {
        let answer = get(&format!("/portal/s/{other}/subscriptions")).await;
        assert!([404, 410].contains(&answer.status.as_u16()), "{answer:?}");
    }
    let stored =
        database.text("select string_agg(l::text, '') from webhook.portal_link l").await.expect("a link");
    assert!(!stored.contains(&key) && !stored.contains(&link_token), "hashes alone: {stored}");

    // The session ends with the link, with its row, and when its visitor signs out.
    database.run("update webhook.portal_link set expires_at = now()").await;
    let ended = get(&session).await;
    assert_eq!(ended.status, 410, "{ended:?}");
    assert!(ended.text.contains("This page has expired"), "{ended:?}");
    let second = open(&admin, &link(&admin, &ops, "t1").await).await;
    assert_eq!(get(&second).await.status, 200);
    database.run("delete from webhook.portal_link").await;
    assert_eq!(get(&second).await.status, 410);
    let third = open(&admin, &link(&admin, &ops, "t1").await).await;
    assert_eq!(admin.ask("POST", &format!("{third}/close"), None, &FORM, Some("")).await.status, 410);
    assert_eq!(get(&third).await.status, 410);

    // A link that expired before it was opened.
    let late = link(&admin, &ops, "t1").await;
    database.run("update webhook.portal_link set expires_at = now()").await;
    for answer in [get(&late).await, admin.ask("POST", &late, None, &FORM, Some("")).await] {
        assert_eq!(answer.status, 410, "{answer:?}");
        assert!(answer.text.contains("This link has expired"), "{answer:?}");
    }
    assert_eq!(get(&format!("{late}x")).await.status, 410, "an unknown link");

    // A session outlives the daemon, whose log has no key.
    let fourth = open(&admin, &link(&admin, &ops, "t1").await).await;
    assert_eq!(get(&fourth).await.status, 200);
    let metrics = admin.get("/metrics", &ops).await.text;
    assert!(
        metrics.contains("/portal") && !metrics.contains("whses_") && !metrics.contains("whlnk_"),
        "{metrics}"
    );
    let log = admin.daemon.process().log().join("\n");
    assert!(!log.contains("whses_") && !log.contains("whlnk_"), "{log}");
    assert!(admin.daemon.sigterm(PATIENCE).await.success());
    let again = Settings::with("").start(database).await;
    assert_eq!(again.ask("GET", &fourth, None, &[], None).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_admins_make_them() {
    let world = World::new().await;
    let database = &world.database;
    Admin::roles(database).await;
    let ops = token(database, &["--role", "ops"]);
    let settings = Settings::with("url = 'https://hooks.example'\nframe_ancestors = ['https://app.example']");
    let admin = settings.start(database).await;
    for arguments in
        [["--role", "alice"].as_slice(), &["--role", "clerk"], &["--role", "tenants", "--owner", "t1"]]
    {
        let caller = token(database, arguments);
        let answer = request(&admin, &caller, "t1", 5).await;
        assert_eq!(answer.status, 403, "{arguments:?}: {answer:?}");
    }
    for (body, status, field) in [
        (json!({}), 422, None),
        (json!({"owner": ""}), 422, Some("owner")),
        (json!({"owner": "*"}), 422, Some("owner")),
        (json!({"owner": "t1", "minutes": 0}), 422, Some("minutes")),
        (json!({"owner": "t1", "minutes": 1441}), 422, Some("minutes")),
        (json!({"owner": "t1", "role": "clerk"}), 403, Some("role")),
        (json!({"owner": "t1", "role": "ops"}), 422, Some("role")),
        (json!({"owner": "t1", "url": "https://evil.example"}), 422, Some("url")),
    ] {
        let answer = admin.post("/v1/portal-links", &ops, &body.to_string()).await;
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        if field.is_some() {
            assert_eq!(answer.json()["field"].as_str(), field, "{body}: {answer:?}");
        }
    }
    assert_eq!(database.number("select count(*) from webhook.portal_link").await, 0, "nothing was stored");

    // The URL does not depend on the request, and the page may be embedded where it is listed.
    let forged = [("host", "evil.example"), ("x-forwarded-host", "evil.example")];
    let made = admin.ask("POST", "/v1/portal-links", Some(&ops), &forged, Some(r#"{"owner":"t1"}"#)).await;
    let url = made.json()["url"].as_str().expect("a URL").to_owned();
    assert!(url.starts_with("https://hooks.example/portal/links/whlnk_"), "{url}");
    let path = url.trim_start_matches("https://hooks.example").to_owned();
    let session = open(&admin, &path).await;
    for path in [&path, &session] {
        let page = admin.ask("GET", path, None, &[], None).await;
        assert!(page.header("content-security-policy").ends_with("frame-ancestors https://app.example"));
        assert_eq!(page.header("x-frame-options"), "");
    }
    let login = admin.ask("GET", "/login", None, &[], None).await;
    assert!(login.header("content-security-policy").ends_with("frame-ancestors 'none'"));
    assert_eq!(login.header("x-frame-options"), "DENY");

    // The number of links is limited: the newest stay.
    database
        .run("select webhook.create_portal_link(sha256(i::text::bytea), 'tenants', 't9', 5) from generate_series(1, 1100) i")
        .await;
    assert_eq!(database.number("select count(*) from webhook.portal_link where owner = 't9'").await, 1000);
    assert_eq!(admin.ask("GET", &session, None, &[], None).await.status, 200, "those of other owners stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_makes_them_too() {
    let world = World::new().await;
    let database = &world.database;
    Admin::roles(database).await;
    let settings = Settings::with("url = 'https://hooks.example'");
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(e2e::daemon::binary())
            .args(["portal-link", "--database-url", &database.url()])
            .args(arguments)
            .output()
            .expect("webhookd runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text").trim().to_owned();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let file = settings.path();
    let file = ["--config", file.to_str().expect("text")];
    let (code, url, _) = run(&[&file[..], &["t1", "--minutes", "5"]].concat());
    assert_eq!(code, Some(0));
    let path = url.strip_prefix("https://hooks.example").expect("the configured URL").to_owned();
    let admin = settings.start(database).await;
    let session = open(&admin, &path).await;
    assert_eq!(admin.ask("GET", &session, None, &[], None).await.status, 200);
    let minutes = "select round(extract(epoch from expires_at - created_at) / 60) from webhook.portal_link";
    assert_eq!(database.text(minutes).await.as_deref(), Some("5"));
    for (arguments, said) in [
        ([&file[..], &["t1", "--role", "clerk"]].concat(), "can see other owners"),
        ([&file[..], &["t1", "--role", "none"]].concat(), "does not exist"),
        (vec!["t1", "--role", "tenants"], "[portal]"),
        ([&file[..], &["*"]].concat(), "owner"),
    ] {
        let (code, _, error) = run(&arguments);
        assert!(code == Some(2) && error.contains(said), "{arguments:?}: {code:?} {error}");
    }
}

/// Every page of one owner, for the subscription and events of another one.
#[tokio::test(flavor = "multi_thread")]
async fn it_shows_no_other_owner() {
    let world = World::new().await;
    let database = &world.database;
    Admin::roles(database).await;
    let ops = token(database, &["--role", "ops"]);
    let admin = Settings::with("").start(database).await;
    let theirs = token(database, &["--role", "tenants", "--owner", "t2"]);
    let url = world.receiver.url("/ok/theirs");
    let body = json!({"url": url, "events": ["order.*"], "name": "theirs", "secret": SECRET}).to_string();
    let made = admin.post("/v1/subscriptions", &theirs, &body).await.json();
    let id = made["id"].as_i64().expect("an id");
    database.run("select webhook_emit('order.created', '{\"of\": \"t2\"}'::jsonb, '1', owner => 't2')").await;
    world.receiver.wait_for("/ok/theirs", 1, PATIENCE).await;
    database.until("select exists (select from webhook.delivery where state = 'delivered')", PATIENCE).await;
    let event = database.text("select event_id from webhook.delivery").await.expect("an event");
    let before = database.text("select s::text from webhook.subscription s").await;

    let session = open(&admin, &link(&admin, &ops, "t1").await).await;
    let pages = admin::page::paths().filter_map(|path| path.strip_prefix("/portal"));
    for page in pages.filter(|page| !["/close", "/live"].contains(page) && !page.starts_with("/links")) {
        let path = page
            .replace("{id}", &id.to_string())
            .replace("{subscription_id}", &id.to_string())
            .replace("{event_id}", &event)
            .replace("{type}", "order.created")
            .replace("{name}", "openapi.json");
        for (method, body) in [("GET", None), ("POST", Some("action=delete&confirmed=yes"))] {
            let answer = admin.ask(method, &format!("{session}{path}"), None, &FORM, body).await;
            let is_theirs = page.contains("_id}") || page.contains("{id}");
            assert!(
                !is_theirs || [404, 405].contains(&answer.status.as_u16()),
                "{method} {page}: {answer:?}"
            );
            for word in ["theirs", "\"t2\"", url.as_str()] {
                assert!(!answer.text.contains(word), "{method} {page} shows {word}: {answer:?}");
            }
        }
    }
    assert_eq!(
        database.text("select s::text from webhook.subscription s").await,
        before,
        "nothing has changed"
    );
}
