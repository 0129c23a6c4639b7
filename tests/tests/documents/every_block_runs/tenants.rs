//! The application of `docs/TENANTS.md`, and a customer who uses it as a browser would.

use super::world::World;
use e2e::PATIENCE;
use reqwest::{Client, Response, redirect::Policy};

/// The files of the example, where the reader starts its commands.
pub async fn prepare(world: &mut World) {
    let folder = world.folder.path().to_owned();
    for (name, text) in [
        ("schema.sql", include_str!("../../../../docs/examples/tenants/schema.sql")),
        ("app.py", include_str!("../../../../docs/examples/tenants/app.py")),
    ] {
        std::fs::write(folder.join(name), text).expect("it can be written");
    }
    world.prepare(&format!("\\cd {}", folder.display())).await;
}

async fn body(answer: Response, status: u16) -> String {
    let found = answer.status().as_u16();
    let text = answer.text().await.expect("a body");
    assert_eq!(found, status, "{text}");
    text
}

fn location(answer: &Response) -> String {
    let value = answer.headers().get("location").and_then(|value| value.to_str().ok());
    value.unwrap_or_else(|| panic!("no redirect: {answer:?}")).to_owned()
}

/// Signs in as Acme, opens the embedded page, adds an endpoint, and sees a delivery.
pub async fn visit(world: &mut World) {
    let client = e2e::http_client().redirect(Policy::none()).build().expect("a client");
    let application = world.localize("http://127.0.0.1:3000");
    let get = async |url: String| client.get(url).send().await.expect("an answer");
    assert_eq!(location(&get(format!("{application}/webhooks")).await), "/sign-in");
    let choice = body(get(format!("{application}/sign-in")).await, 200).await;
    assert!(choice.contains("Acme Inc."), "{choice}");
    let link = link(&client, &application).await;
    let shown = get(link.clone()).await;
    let policy = shown.headers()["content-security-policy"].to_str().expect("text").to_owned();
    assert!(policy.ends_with(&format!("frame-ancestors {application}")), "{policy}");
    assert!(body(shown, 200).await.contains("Invoices Inc."));
    let opened = client.post(&link).send().await.expect("an answer");
    let (server, _) = link.split_once("/portal/").expect("a link");
    let session = format!("{server}{}", location(&opened).trim_end_matches('/'));
    let form = body(get(format!("{session}/subscriptions/new")).await, 200).await;
    assert!(form.contains("invoice.created") && !form.contains("fraud"), "{form}");

    let url = world.receiver.url("/ok/acme");
    let fields = [("url", url.as_str()), ("events", "invoice.created")];
    let mut encoded = url::form_urlencoded::Serializer::new(String::new());
    encoded.extend_pairs(fields);
    let added = client
        .post(format!("{session}/subscriptions"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(encoded.finish());
    let added = body(added.send().await.expect("an answer"), 200).await;
    assert!(added.contains("whsec_"), "{added}");

    world.prepare("insert into invoice (customer_id, amount) values ('globex', 7), ('acme', 150);").await;
    world.receiver.wait_for("/ok/acme", 1, PATIENCE).await;
    let request = world.receiver.at("/ok/acme").remove(0);
    assert_eq!(request.json()["data"]["customer_id"], "acme");
    let delivered =
        "select exists (select from webhook.delivery where state = 'delivered' and type = 'invoice.created')";
    world.database.until(delivered, PATIENCE).await;
    let log = body(get(format!("{session}/deliveries")).await, 200).await;
    assert!(log.contains("invoice.created") && log.contains("delivered"), "{log}");
    assert!(!log.contains("globex") && !log.contains("fraud"), "{log}");
    assert_eq!(world.receiver.at("/ok/acme").len(), 1, "no event of Globex");
}

/// Signs in, and returns the URL of the frame.
async fn link(client: &Client, application: &str) -> String {
    let entered =
        client.post(format!("{application}/sign-in")).body("customer=acme").send().await.expect("an answer");
    let cookie = entered.headers()["set-cookie"].to_str().expect("text");
    let cookie = cookie.split(';').next().expect("a cookie").to_owned();
    let page = client.get(format!("{application}/webhooks")).header("cookie", cookie);
    let page = body(page.send().await.expect("an answer"), 200).await;
    let (_, rest) = page.split_once("src=\"").unwrap_or_else(|| panic!("no frame: {page}"));
    rest.split('"').next().expect("a URL").to_owned()
}
