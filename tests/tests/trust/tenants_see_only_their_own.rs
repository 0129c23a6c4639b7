//! Promise: through the admin server no owner sees or changes another's data, by any route.

use e2e::{
    PATIENCE,
    admin::{Admin, Answer, token},
    receiver::SECRET,
    world::World,
};
use serde_json::Value;
use std::collections::BTreeSet;

/// How a caller relates to alice's subscription. It decides the answers of the routes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    Owner,
    Admin,
    Reader,
    Other,
}

/// A method, a route, a body, and the status for the owner, an admin, a reader and others.
type Route = (&'static str, &'static str, Option<&'static str>, [u16; 4]);

/// Every route, in an order that keeps the subscription alive until the end. The subscription and
/// the event in the path are alice's. Lists answer every caller, with the rows that the caller may
/// see. A page's body is a form without its token.
const ROUTES: [Route; 70] = [
    ("GET", "/v1/subscriptions/{id}", None, [200, 200, 200, 404]),
    ("PATCH", "/v1/subscriptions/{id}", Some(r#"{"timeout":"PT7S"}"#), [200, 200, 403, 404]),
    ("POST", "/v1/subscriptions/{id}/pause", Some("{}"), [200, 200, 403, 404]),
    ("POST", "/v1/subscriptions/{id}/resume", Some("{}"), [200, 200, 403, 404]),
    ("POST", "/v1/subscriptions/{id}/try", Some("{}"), [202, 202, 403, 404]),
    ("POST", "/v1/subscriptions/{id}/redeliver-failed", Some("{}"), [202, 202, 403, 404]),
    ("POST", "/v1/subscriptions/{id}/rotate", Some(r#"{"overlap":"PT1H"}"#), [200, 200, 403, 404]),
    ("POST", "/v1/subscriptions/{id}/ping", None, [202, 202, 403, 404]),
    ("POST", "/v1/subscriptions/{id}/replay", Some(r#"{"since":"-infinity"}"#), [202, 202, 403, 404]),
    ("GET", "/v1/subscriptions/{id}/events", None, [200, 200, 200, 404]),
    ("GET", "/v1/deliveries/{event_id}/{subscription_id}", None, [200, 200, 200, 404]),
    ("GET", "/v1/deliveries/{event_id}/{subscription_id}/attempts", None, [200, 200, 200, 404]),
    ("POST", "/v1/deliveries/{event_id}/{subscription_id}/redeliver", None, [202, 202, 403, 404]),
    ("GET", "/v1/events/{event_id}", None, [200, 200, 200, 404]),
    ("GET", "/v1/subscriptions", None, [200, 200, 200, 200]),
    ("GET", "/v1/receivers", None, [200, 200, 200, 200]),
    ("POST", "/v1/subscriptions", Some(OWN), [201, 201, 403, 201]),
    ("GET", "/v1/event-types", None, [200, 200, 200, 200]),
    ("GET", "/v1/events", None, [200, 200, 200, 200]),
    ("GET", "/v1/deliveries", None, [200, 200, 200, 200]),
    ("GET", "/metrics", None, [403, 200, 200, 403]),
    ("GET", "/v1/tokens", None, [403, 200, 403, 403]),
    ("POST", "/v1/tokens", Some(r#"{"name":"x","role":"ops","minutes":1}"#), [403, 201, 403, 403]),
    ("DELETE", "/v1/tokens/{token_id}", None, [403, 404, 403, 403]),
    ("POST", "/v1/portal-links", Some(r#"{"owner":"t9","role":"tenants"}"#), [403, 201, 403, 403]),
    ("GET", "/", None, [200, 200, 200, 200]),
    ("GET", "/subscriptions", None, [200, 200, 200, 200]),
    ("POST", "/subscriptions", Some("url=https://a.example/&events=x.y"), [200, 200, 403, 200]),
    ("GET", "/subscriptions/new", None, [200, 200, 200, 200]),
    ("GET", "/subscriptions/{id}", None, [200, 200, 200, 404]),
    ("POST", "/subscriptions/{id}", Some("action=ping"), [303, 303, 403, 404]),
    ("GET", "/events", None, [200, 200, 200, 200]),
    ("GET", "/events/{event_id}", None, [200, 200, 200, 404]),
    ("GET", "/deliveries", None, [200, 200, 200, 200]),
    ("GET", "/deliveries/{event_id}/{subscription_id}", None, [200, 200, 200, 404]),
    ("POST", "/deliveries/{event_id}/{subscription_id}", Some(""), [303, 303, 403, 404]),
    ("GET", "/docs", None, [200, 200, 200, 200]),
    ("GET", "/docs/{type}", None, [200, 200, 200, 200]),
    ("GET", "/docs/{type}/schema.json", None, [200, 200, 200, 200]),
    ("GET", "/docs/documents/{name}", None, [200, 200, 200, 200]),
    ("GET", "/live", None, [200, 200, 200, 200]),
    ("POST", "/logout", Some(""), [303, 303, 303, 303]),
    ("DELETE", "/v1/subscriptions/{id}", None, [204, 204, 403, 404]),
    // Any caller may have these.
    ("GET", "/v1/openapi.json", None, [200, 200, 200, 200]),
    ("GET", "/search", None, [303, 303, 303, 303]),
    ("GET", "/login", None, [200, 200, 200, 200]),
    ("POST", "/login", Some("token=x"), [401, 401, 401, 401]),
    ("GET", "/style.css", None, [200, 200, 200, 200]),
    ("GET", "/live.js", None, [200, 200, 200, 200]),
    ("GET", "/favicon.ico", None, [200, 200, 200, 200]),
    // Neither a token nor a cookie opens the page of an owner. portal_links_open_once.rs tries its
    // routes with the key of another owner.
    ("GET", "/portal", None, [410, 410, 410, 410]),
    ("GET", "/portal/subscriptions", None, [410, 410, 410, 410]),
    ("POST", "/portal/subscriptions", Some("url=https://a.example/"), [410, 410, 410, 410]),
    ("GET", "/portal/subscriptions/new", None, [410, 410, 410, 410]),
    ("GET", "/portal/subscriptions/{id}", None, [410, 410, 410, 410]),
    ("POST", "/portal/subscriptions/{id}", Some("action=delete"), [410, 410, 410, 410]),
    ("GET", "/portal/deliveries", None, [410, 410, 410, 410]),
    ("GET", "/portal/deliveries/{event_id}/{subscription_id}", None, [410, 410, 410, 410]),
    ("POST", "/portal/deliveries/{event_id}/{subscription_id}", Some(""), [410, 410, 410, 410]),
    ("GET", "/portal/docs", None, [410, 410, 410, 410]),
    ("GET", "/portal/docs/{type}", None, [410, 410, 410, 410]),
    ("GET", "/portal/docs/{type}/schema.json", None, [410, 410, 410, 410]),
    ("GET", "/portal/docs/documents/{name}", None, [410, 410, 410, 410]),
    ("GET", "/portal/live", None, [410, 410, 410, 410]),
    ("POST", "/portal/close", Some(""), [410, 410, 410, 410]),
    ("GET", "/portal/links/{token}", None, [410, 410, 410, 410]),
    ("POST", "/portal/links/{token}", Some(""), [410, 410, 410, 410]),
    ("GET", "/portal/brand.css", None, [200, 200, 200, 200]),
    ("GET", "/portal/logo", None, [404, 404, 404, 404]),
    ("GET", "/portal/embedded.js", None, [200, 200, 200, 200]),
];
const OWN: &str = r#"{"url":"https://a.example/","events":["x.y"]}"#;

/// The number of routes at the end of [`ROUTES`] that need no token; and the routes that report the
/// daemon's health.
const PUBLIC: usize = 27;
const HEALTH: [&str; 2] = ["/healthz", "/readyz"];

fn is_api(path: &str) -> bool {
    path.starts_with("/v1/") || path == "/metrics"
}

/// Sends a request. The page takes the token from a cookie, the API from a header.
async fn ask(admin: &Admin, method: &str, path: &str, body: Option<&str>, token: &str) -> Answer {
    if is_api(path) {
        return admin.ask(method, path, Some(token), &[], body).await;
    }
    let cookie = admin.cookie(token).await;
    let Some(body) = body else { return admin.ask(method, path, None, &[("cookie", &cookie)], None).await };
    let shown = admin.ask("GET", "/subscriptions/new", None, &[("cookie", &cookie)], None).await;
    let ours = if shown.status == 200 { shown.form_token() } else { "0".repeat(64) };
    let headers = [("cookie", &*cookie), ("content-type", "application/x-www-form-urlencoded")];
    let answer = admin.ask(method, path, None, &headers, Some(&format!("{body}&form_token={ours}"))).await;
    if path == "/logout" {
        admin.forget_cookie(token);
    }
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_is_left_out() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let admin = Admin::start(&world.database, &["--admin-open-as", "clerk"]).await;
    let document = admin.ask("GET", "/v1/openapi.json", None, &[], None).await.json();
    let documented = document["paths"].as_object().expect("paths");
    let mut routes = BTreeSet::new();
    for path in admin::routes::paths() {
        let answer = admin.ask("OPTIONS", &concrete(&path, 1, "evt_1"), None, &[], None).await;
        assert_eq!(answer.status, 405, "{path}: {answer:?}");
        let allowed: BTreeSet<String> =
            answer.header("allow").split(',').map(|word| word.trim().to_owned()).collect();
        assert!(!allowed.contains(""), "{path}: {answer:?}");
        if let Some(operations) = documented.get(&path) {
            for method in operations.as_object().expect("operations").keys() {
                assert!(
                    allowed.contains(&method.to_uppercase()),
                    "{method} {path} is documented and not there"
                );
            }
        }
        // Every route with GET accepts HEAD too.
        let methods = allowed.into_iter().filter(|method| method != "HEAD");
        routes.extend(methods.map(|method| (method, path.clone())));
    }
    for path in documented.keys() {
        assert!(routes.iter().any(|(_, route)| route == path), "{path} is documented and not there");
    }
    let tabled: BTreeSet<(String, String)> = ROUTES
        .iter()
        .map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned()))
        .chain(HEALTH.map(|path| ("GET".to_owned(), path.to_owned())))
        .collect();
    assert_eq!(tabled.len(), ROUTES.len() + HEALTH.len(), "none twice");
    let missing: Vec<_> = routes.difference(&tabled).collect();
    let gone: Vec<_> = tabled.difference(&routes).collect();
    assert!(missing.is_empty() && gone.is_empty(), "not in ROUTES: {missing:?}; no longer there: {gone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn by_every_route_and_role() {
    let world = World::new().await;
    let database = &world.database;
    Admin::roles(database).await;
    // An admin gives away only roles that it may become. The owner of an order is its customer.
    database
        .run("grant tenants to ops; select webhook_watch('orders', noun => 'order', owner_column => 'customer')")
        .await;
    let token = |arguments: &[&str]| token(database, arguments);
    let (alice, bob, ops) =
        (token(&["--role", "alice"]), token(&["--role", "bob"]), token(&["--role", "ops"]));
    let clerk = token(&["--role", "clerk"]);
    let (one, two) =
        (token(&["--role", "tenants", "--owner", "t1"]), token(&["--role", "tenants", "--owner", "t2"]));
    // A token that is confined to an owner with a role's name sees that role's data.
    let for_alice = token(&["--role", "tenants", "--owner", "alice"]);
    let admin = Admin::start(database, &[]).await;

    // First a role's own data, then a tenant's. Each of the allowed callers tries every route, on a
    // subscription of its own.
    for (owner, owners) in [(&alice, [&alice, &for_alice]), (&one, [&one, &one])] {
        for asked_by in 0..2 {
            let url = world.receiver.url(&format!("/ok/{asked_by}"));
            let made = admin
                .post(
                    "/v1/subscriptions",
                    owner,
                    &format!(r#"{{"url":"{url}","events":["order.*"],"secret":"{SECRET}"}}"#),
                )
                .await;
            assert_eq!(made.status, 201, "{made:?}");
            let id = made.json()["id"].as_i64().expect("a number");
            let name = if owner == &alice { "alice" } else { "t1" };
            let insert = format!("insert into orders select coalesce(max(id), 0) + 1, '{name}' from orders");
            world.app.batch_execute(&insert).await.expect("it can be inserted");
            let delivered = format!(
                "select exists (select from webhook.delivery where subscription_id = {id} and state = 'delivered')"
            );
            database.until(&delivered, PATIENCE).await;
            let event = format!(
                "select event_id from webhook.delivery where subscription_id = {id} and state = 'delivered'"
            );
            let event = database.text(&event).await.expect("an event");

            let row = format!(
                "select row(s.*, (select array_agg(k.*) from webhook.secret k where k.subscription_id = s.id))::text from webhook.subscription s where id = {id}"
            );
            let before = database.text(&row).await;
            let mut callers = vec![(&bob, Stands::Other), (&two, Stands::Other), (&clerk, Stands::Reader)];
            callers.extend(if owner == &alice { [(&one, Stands::Other)] } else { [(&alice, Stands::Other)] });
            for (caller, stands) in callers {
                for (method, path, body, statuses) in ROUTES {
                    check(&admin, method, path, body, caller, (id, &event), (stands, statuses)).await;
                }
                for list in ["/v1/subscriptions", "/v1/receivers", "/v1/deliveries"] {
                    let items = admin.get(list, caller).await.json()["items"].to_string();
                    let name = if list == "/v1/deliveries" { "subscription_id" } else { "id" };
                    let is_listed = items.contains(&format!("\"{name}\":{id},"));
                    assert_eq!(is_listed, stands == Stands::Reader, "{list} to {stands:?}: {items}");
                }
                for page in ["/", "/subscriptions", "/deliveries"] {
                    let shown = ask(&admin, "GET", page, None, caller).await;
                    assert_eq!(shown.status, 200);
                    let is_shown = shown.text.contains(&format!("/subscriptions/{id}\""));
                    assert_eq!(is_shown, stands == Stands::Reader, "{page} to {stands:?}");
                }
            }
            assert_eq!(database.text(&row).await, before, "nothing has changed");

            let (caller, stands) =
                if asked_by == 0 { (&ops, Stands::Admin) } else { (owners[1], Stands::Owner) };
            for (method, path, body, statuses) in ROUTES {
                check(&admin, method, path, body, caller, (id, &event), (stands, statuses)).await;
            }
            assert_eq!(database.text(&row).await, None, "its owner has ended it");
        }
    }
}

/// Returns a route with values in place of its parameters.
fn concrete(path: &str, id: i64, event: &str) -> String {
    let id = id.to_string();
    let path = path.replace("{id}", &id).replace("{subscription_id}", &id).replace("{event_id}", event);
    let path = path.replace("{token_id}", "999999").replace("{token}", "whlnk_x");
    path.replace("{type}", "order.created").replace("{name}", "openapi.json")
}

async fn check(
    admin: &Admin,
    method: &str,
    path: &str,
    body: Option<&str>,
    caller: &str,
    (id, event): (i64, &str),
    (stands, statuses): (Stands, [u16; 4]),
) {
    let path = concrete(path, id, event);
    if path == "/live" {
        let status = admin.status_of(&path, &[("cookie", &admin.cookie(caller).await)]).await;
        assert_eq!(status, 200);
        return;
    }
    let answer = ask(admin, method, &path, body, caller).await;
    let want = statuses[match stands {
        Stands::Owner => 0,
        Stands::Admin => 1,
        Stands::Reader => 2,
        Stands::Other => 3,
    }];
    assert_eq!(answer.status, want, "{method} {path} by {stands:?}: {}", answer.text);
    if answer.status.is_client_error() && path.starts_with("/v1/") {
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.json()["status"], Value::from(want));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_every_route_is_rejected() {
    let world = World::new().await;
    let database = &world.database;
    Admin::roles(database).await;
    let arguments = ["--role", "alice", "--days", "1"];
    let (alice, expired, revoked) =
        (token(database, &arguments), token(database, &arguments), token(database, &arguments));
    let stranger = token(database, &["--role", "stranger"]);
    // The token was made for one owner, with a role that was a subscriber then and sees everything
    // now.
    let grown = token(database, &["--role", "bob", "--owner", "t1"]);
    database.run("select webhook_grant('bob', 'reader')").await;
    database.run("update webhook.token set expires_at = now() where id = 2; delete from webhook.token where id = 3").await;
    let stored = database.text("select string_agg(t::text, '') from webhook.token t").await.expect("tokens");
    assert!(!stored.contains("whtok_") && !stored.contains(&alice), "hashes alone: {stored}");
    let admin = Admin::start(database, &[]).await;
    let (guarded, public) = ROUTES.split_at(ROUTES.len() - PUBLIC);
    for (method, path, body, _) in guarded {
        let path = concrete(path, 1, "evt_00000000000000001");
        for wrong in [&expired, &revoked, "whtok_x", "", "whtok_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]
        {
            let answer = ask(&admin, method, &path, *body, wrong).await;
            let want = match &*path {
                path if is_api(path) => 401,
                // Logging out needs the token of the page's own form.
                "/logout" => 403,
                _ => 303,
            };
            assert_eq!(answer.status, want, "{method} {path}: {answer:?}");
            assert!(want != 303 || answer.header("location") == "/login", "{method} {path}: {answer:?}");
        }
        for (refused, why) in
            [(&stranger, "webhookd cannot act as"), (&grown, "its role can see other owners")]
        {
            let answer = ask(&admin, method, &path, *body, refused).await;
            if is_api(&path) {
                assert_eq!(answer.status, 403, "{method} {path}: {answer:?}");
                assert!(answer.text.contains(why), "{answer:?}");
            } else {
                // The page gets no session with this token.
                let want = if path == "/logout" { 403 } else { 303 };
                assert_eq!(answer.status, want, "{method} {path}: {answer:?}");
            }
        }
    }
    for (refused, why) in [(&stranger, "webhookd cannot act as"), (&grown, "its role can see other owners")] {
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let answer = admin.ask("POST", "/login", None, &form, Some(&format!("token={refused}"))).await;
        assert_eq!(answer.status, 403, "{answer:?}");
        assert!(answer.text.contains(why), "{answer:?}");
    }
    for (method, path, body, statuses) in public {
        let answer = ask(&admin, method, path, *body, "").await;
        assert_eq!(answer.status, statuses[3], "{method} {path}: {answer:?}");
        assert!(!answer.text.contains("alice"), "{method} {path} tells something: {answer:?}");
    }
    assert_eq!(admin.get("/v1/subscriptions", &alice).await.status, 200);
    // A cookie works only for the page, so that another site's form cannot use the API.
    let cookie = admin.cookie(&alice).await;
    assert_eq!(admin.ask("GET", "/v1/subscriptions", None, &[("cookie", &cookie)], None).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_named_by_the_daemon_alone() {
    let world = World::new().await;
    let database = &world.database;
    Admin::roles(database).await;
    database
        .run("alter role alice login; select webhook_subscribe('https://example.com/t1', owner => 't1')")
        .await;
    let refused =
        |error: tokio_postgres::Error| error.as_db_error().map(|error| error.code().code().to_owned());
    // Before the library is loaded, any role may set a parameter of that name. The extension must
    // not believe it.
    for forged in [
        "set webhook.tenant = 't1'",
        "select set_config('webhook.tenant', 't1', false)",
        "load 'pg_webhook'; set webhook.tenant = 't1'",
        "select set_config('webhook.tenant_role', '10', false)",
        "load 'pg_webhook'; set webhook.tenant_role = '10'",
    ] {
        let session = database.try_client("alice").await.expect("she may connect");
        let _ = session.batch_execute(forged).await;
        for relation in [
            "webhook.subscription",
            "webhook.subscription_stats",
            "webhook.subscription_health",
            "webhook.delivery",
            "webhook.matching_event",
            "webhook.delivered_event",
            "webhook.owned_event",
        ] {
            let row = session
                .query_one(&format!("select count(*) from {relation}"), &[])
                .await
                .expect("she may read");
            assert_eq!(row.get::<_, i64>(0), 0, "{forged}: {relation}");
        }
        let paused = session.batch_execute("select webhook_pause(1)").await.expect_err("it is not hers");
        assert_eq!(refused(paused).as_deref(), Some("42704"));
        let acted = session
            .batch_execute("select webhook.act_for('t1', null)")
            .await
            .expect_err("she is not the daemon");
        assert_eq!(refused(acted).as_deref(), Some("42501"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_role_does_not_inherit_from_a_dropped_one() {
    const NEW_ALICE: &str = "
        drop owned by alice; drop role alice;
        create role alice; select webhook_grant('alice', 'subscriber'); grant alice to daemon";
    let world = World::new().await;
    let database = &world.database;
    Admin::roles(database).await;
    database.run("select webhook_subscribe('https://example.com/1', name => 'one', owner => 'alice')").await;
    let names = |answer: Answer| answer.json()["items"].as_array().map(Vec::len);
    let admin = Admin::start(database, &[]).await;
    let alice = token(database, &["--role", "alice"]);
    let for_alice = token(database, &["--role", "tenants", "--owner", "alice"]);
    for token in [&alice, &for_alice] {
        let answer = admin.ask("GET", "/v1/subscriptions", Some(token), &[], None).await;
        assert_eq!(names(answer), Some(1));
    }
    database.run("alter role alice rename to alicia").await;
    for token in [&alice, &for_alice] {
        let answer = admin.ask("GET", "/v1/subscriptions", Some(token), &[], None).await;
        assert_eq!(names(answer), Some(1), "a rename takes nothing away");
    }
    database.run("alter role alicia rename to alice").await;
    database.run(NEW_ALICE).await;
    for token in [&alice, &for_alice] {
        let answer = admin.ask("GET", "/v1/subscriptions", Some(token), &[], None).await;
        assert_eq!(answer.status, 401, "a token ends with its role: {answer:?}");
    }
    let new = token(database, &["--role", "alice"]);
    let answer = admin.ask("GET", "/v1/subscriptions", Some(&new), &[], None).await;
    assert_eq!(names(answer), Some(0));
    let answer = admin.ask("POST", "/v1/subscriptions/1/pause", Some(&new), &[], Some("{}")).await;
    assert_eq!(answer.status, 404, "{answer:?}");
}
