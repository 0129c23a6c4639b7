//! Promise: the page of a customer withstands other customers, and those who lost their access.
//! Its errors are pages in the customer's words, and one customer leaves places to others.

use e2e::{
    PATIENCE,
    admin::{Admin, Answer, token},
    portal::{Settings, link, open},
    world::World,
};
use futures_util::future::{join, join_all};

const FORM: [(&str, &str); 1] = [("content-type", "application/x-www-form-urlencoded")];

/// Words that a customer has no use for.
const FORBIDDEN: [&str; 7] =
    ["webhookd", "daemon", "tenants", "permission denied", "problem+json", "webhook_", "sqlstate"];

/// Checks an error: a page of the application, with all headers, that tells nothing of the machine.
fn is_ours(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(answer.header("content-type").starts_with("text/html"), "{answer:?}");
    assert!(answer.text.contains("Shop &amp; Co"), "{answer:?}");
    assert_eq!(
        (answer.header("referrer-policy"), answer.header("cache-control")),
        ("no-referrer", "no-store")
    );
    assert!(answer.header("content-security-policy").ends_with("frame-ancestors 'none'"), "{answer:?}");
    let (_, content) = answer.text.split_once("<main").expect("a page");
    for word in FORBIDDEN {
        assert!(!content.to_lowercase().contains(word), "it says {word}: {content}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_nothing_of_the_machine() {
    let world = World::new().await;
    let database = &world.database;
    Admin::roles(database).await;
    let ops = token(database, &["--role", "ops"]);
    let admin = Settings::with("").start(database).await;
    let session = open(&admin, &link(&admin, &ops, "t1").await).await;
    let get = async |path: &str| admin.ask("GET", &format!("{session}{path}"), None, &[], None).await;
    let post = async |path: &str, body: &str| {
        admin.ask("POST", &format!("{session}{path}"), None, &FORM, Some(body)).await
    };

    is_ours(&get("/nowhere").await, 404);
    is_ours(&get("/subscriptions/77").await, 404);
    is_ours(&post("/subscriptions", &format!("name={}", "x".repeat(300_000))).await, 413);
    is_ours(&admin.ask("PUT", &session, None, &[], None).await, 405);
    for path in
        ["/subscriptions/%0d%0aset-cookie:%20a=b", "/deliveries/evt_1%0d%0ax:%20y/1", "//evil.example/"]
    {
        for method in ["GET", "POST"] {
            let answer = admin.ask(method, &format!("{session}{path}"), None, &FORM, None).await;
            // A form about a delivery names the bad event id.
            is_ours(&answer, if method == "POST" && path.starts_with("/deliveries") { 422 } else { 404 });
            assert!(!answer.headers.contains_key("set-cookie") && !answer.headers.contains_key("location"));
        }
    }
    // A guess from another site has no key, and changes nothing.
    let foreign = [FORM[0], ("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")];
    for path in ["/portal/subscriptions", "/portal/s/whses_guess/subscriptions", "/portal/close"] {
        let answer = admin.ask("POST", path, None, &foreign, Some("url=https://a.example/")).await;
        assert!([404, 410].contains(&answer.status.as_u16()), "{path}: {answer:?}");
    }
    assert_eq!(get("").await.status, 200);

    // The page says in words that a customer has too many endpoints.
    database.run("insert into webhook.owner_limit (owner, subscriptions, verification_required) values ('t1', 1, true)").await;
    let fields = |at: &str| format!("url={}&events=*", world.receiver.url(at));
    let made = post("/subscriptions", "url=http://127.0.0.1:9/&events=*").await;
    assert!(
        made.status == 200 && made.text.contains("whsec_"),
        "an answer to a ping can confirm it: {made:?}"
    );
    let kind = "select verification from webhook.subscription";
    assert_eq!(database.text(kind).await.as_deref(), Some("ping"));
    let refused = post("/subscriptions", &fields("/ok/two")).await;
    assert!(refused.status.is_client_error() && refused.text.contains("at most 1"), "{refused:?}");
    assert!(!refused.text.contains("SQLSTATE") && !refused.text.contains("webhook."), "{refused:?}");

    // A renamed role goes on; one that sees more, or less, or is gone, does not.
    database.run("alter role tenants rename to customers").await;
    assert_eq!(get("").await.status, 200);
    database.run("select webhook_grant('customers', 'reader')").await;
    is_ours(&get("").await, 403);
    database.run("drop owned by customers; revoke customers from daemon").await;
    is_ours(&get("").await, 403);
    database.run("drop role customers").await;
    assert_eq!(get("").await.status, 410);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_customer_leaves_places_to_others() {
    let world = World::new().await;
    let database = &world.database;
    Admin::roles(database).await;
    let ops = token(database, &["--role", "ops"]);
    let admin = Settings::with("").start(database).await;
    let id = world.subscribe_with("/ok", "owner => 't1'").await;
    let mut sessions = Vec::new();
    for _ in 0..6 {
        sessions.push(open(&admin, &link(&admin, &ops, "t1").await).await);
    }
    let other = open(&admin, &link(&admin, &ops, "t2").await).await;

    // The requests of t1 wait for a lock, each in a session of Postgres.
    let client = database.client().await;
    let lock = format!("begin; select from webhook.subscription where id = {id} for update");
    client.batch_execute(&lock).await.expect("a lock");
    let paths: Vec<String> = sessions.iter().map(|one| format!("{one}/subscriptions/{id}")).collect();
    let pauses =
        join_all(paths.iter().map(|path| admin.ask("POST", path, None, &FORM, Some("action=pause"))));
    let waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
    let look = async {
        database.until(&format!("select ({waiting}) = 2"), PATIENCE).await;
        let shown = admin.ask("GET", &other, None, &[], None).await;
        assert_eq!(shown.status, 200, "{shown:?}");
        assert!(database.number(waiting).await <= 2);
        client.batch_execute("commit").await.expect("a commit");
    };
    let (answers, ()) = join(pauses, look).await;
    assert!(answers.iter().all(|answer| [303, 503].contains(&answer.status.as_u16())), "{answers:?}");
    assert!(answers.iter().any(|answer| answer.status == 303), "{answers:?}");
}
