//! Promise: an application makes and revokes tokens of its customers over REST. Only admins can,
//! and only for roles that they may become.

use e2e::{
    admin::{Admin, token},
    world::World,
};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn and_they_expire_and_end() {
    let world = World::new().await;
    let database = &world.database;
    Admin::roles(database).await;
    database.run("grant tenants to ops").await;
    let ops = token(database, &["--role", "ops"]);
    let admin = Admin::start(database, &[]).await;

    let body = r#"{"name":"shop 7","role":"tenants","owner":"tenant-7","minutes":5}"#;
    let made = admin.post("/v1/tokens", &ops, body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    let secret = made["token"].as_str().expect("a token").to_owned();
    assert!(secret.starts_with("whtok_"), "{made}");
    assert_eq!(
        (&made["owner"], &made["role"], &made["created_by"]),
        (&json!("tenant-7"), &json!("tenants"), &json!("ops"))
    );
    let minutes = "select round(extract(epoch from expires_at - created_at) / 60) from webhook.token where owner = 'tenant-7'";
    assert_eq!(database.text(minutes).await.as_deref(), Some("5"));
    assert_eq!(admin.get("/v1/subscriptions", &secret).await.status, 200);
    let id = made["id"].as_i64().expect("a number");

    // The list has no secrets, and pages.
    let list = admin.get("/v1/tokens?limit=1", &ops).await;
    assert!(!list.text.contains("whtok_") && !list.text.contains("sha256"), "{list:?}");
    let next = list.json()["next"].as_str().expect("more").to_owned();
    let rest = admin.get(&format!("/v1/tokens?cursor={next}"), &ops).await.json();
    assert_eq!((rest["items"][0]["id"].as_i64(), &rest["next"]), (Some(id), &Value::Null));
    assert!(rest["items"][0]["token"].is_null());

    // An expired token does not work, and neither do the sessions that it has opened.
    let cookie = admin.cookie(&secret).await;
    let page = async || admin.ask("GET", "/subscriptions", None, &[("cookie", &cookie)], None).await.status;
    assert_eq!(page().await, 200);
    database.run(&format!("update webhook.token set expires_at = now() where id = {id}")).await;
    assert_eq!(admin.get("/v1/subscriptions", &secret).await.status, 401);
    assert_eq!(page().await, 303);
    database.run(&format!("update webhook.token set expires_at = null where id = {id}")).await;
    assert_eq!(page().await, 200);
    let revoke =
        async || admin.ask("DELETE", &format!("/v1/tokens/{id}"), Some(&ops), &[], None).await.status;
    assert_eq!(revoke().await, 204);
    assert_eq!(admin.get("/v1/subscriptions", &secret).await.status, 401);
    assert_eq!(page().await, 303, "a revoked token ends its sessions");
    assert_eq!(revoke().await, 404);

    let forever = admin.post("/v1/tokens", &ops, r#"{"name":"x","role":"tenants","owner":"t"}"#).await;
    assert_eq!((forever.status.as_u16(), &forever.json()["expires_at"]), (201, &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gives_away_more_than_they_have() {
    let world = World::new().await;
    let database = &world.database;
    Admin::roles(database).await;
    database.run("grant tenants to ops").await;
    let (ops, alice, clerk) = (
        token(database, &["--role", "ops"]),
        token(database, &["--role", "alice"]),
        token(database, &["--role", "clerk"]),
    );
    let tenant = token(database, &["--role", "tenants", "--owner", "t1"]);
    let admin = Admin::start(database, &[]).await;
    let before = database.number("select count(*) from webhook.token").await;
    for (body, status, field) in [
        (r#"{"name":"x","role":"ops","owner":"t1"}"#, 422, Some("role")),
        // An admin that is no member of the role, and a role that does not exist.
        (r#"{"name":"x","role":"alice"}"#, 403, Some("role")),
        (r#"{"name":"x","role":"postgres"}"#, 403, Some("role")),
        (r#"{"name":"x","role":"none"}"#, 422, Some("role")),
        (r#"{"name":"x","role":"stranger"}"#, 403, Some("role")),
        (r#"{"name":"","role":"tenants"}"#, 422, Some("name")),
        (r#"{"name":"x","role":"tenants","owner":""}"#, 422, Some("owner")),
        (r#"{"name":"x","role":"tenants","minutes":0}"#, 422, Some("minutes")),
        (r#"{"name":"x","role":"tenants","minutes":"5"}"#, 422, Some("minutes")),
        (r#"{"name":"x","role":"tenants","days":5}"#, 422, Some("days")),
        (r#"{"name":"x"}"#, 422, None),
    ] {
        let answer = admin.post("/v1/tokens", &ops, body).await;
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        if field.is_some() {
            assert_eq!(answer.json()["field"].as_str(), field, "{body}: {answer:?}");
        }
    }
    for (caller, body) in [(&alice, "alice"), (&clerk, "clerk"), (&tenant, "tenants")]
        .map(|(caller, role)| (caller, json!({"name": "x", "role": role, "owner": null}).to_string()))
    {
        assert_eq!(admin.post("/v1/tokens", caller, &body).await.status, 403, "{body}");
        assert_eq!(admin.get("/v1/tokens", caller).await.status, 403);
        assert_eq!(admin.ask("DELETE", "/v1/tokens/1", Some(caller), &[], None).await.status, 403);
    }
    assert_eq!(database.number("select count(*) from webhook.token").await, before, "nothing was stored");
}
