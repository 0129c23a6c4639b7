//! Promise: the page shows foreign data only as text, and acts only on requests from its own forms.

use e2e::{
    PATIENCE,
    admin::{Admin, Answer, token},
    world::World,
};

const HOSTILE: &str =
    "<script>alert(1)</script></pre></main><img src=x onerror=alert(2)>\u{202e}dehsup\u{202c}\u{1b}[31m\"'&";

fn form(fields: &[(&str, &str)]) -> String {
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    text.extend_pairs(fields);
    text.finish()
}

async fn send(admin: &Admin, path: &str, cookie: &str, fields: &[(&str, &str)]) -> Answer {
    let headers = [("content-type", "application/x-www-form-urlencoded"), ("cookie", cookie)];
    admin.ask("POST", path, None, &headers, Some(&form(fields))).await
}

async fn show(admin: &Admin, path: &str, cookie: &str) -> Answer {
    let answer = admin.ask("GET", path, None, &[("cookie", cookie)], None).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer
}

/// Checks that no foreign text became markup and that no hidden characters are left.
fn is_inert(path: &str, answer: &Answer) {
    for markup in ["<script>alert", "<img", "</pre></main><img", " style=", "javascript:"] {
        assert!(!answer.text.contains(markup), "{path} has {markup}");
    }
    let hidden = answer.text.chars().find(
        |character| matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{1b}' | '\0'),
    );
    assert_eq!(hidden, None, "{path}");
    let policy = answer.header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'")
            && !policy.contains("unsafe")
            && policy.contains("frame-ancestors 'none'")
    );
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert!(
        !answer.text.contains("//fonts.") && !answer.text.contains("https://cdn"),
        "{path}: no foreign hosts"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_foreign_is_text() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let ops = token(&world.database, &["--role", "ops"]);
    let client = world.database.client().await;
    let id = world.subscribe_with("/nul/1", "retry => '{}'").await;
    let admin = Admin::start(&world.database, &[]).await;
    client.execute("update orders set note = null", &[]).await.expect("a table");
    client
        .execute(
            "select webhook_alter($1, name => left($2, 100), headers => jsonb_build_object('X-Note', '<b>'))",
            &[&id, &"<script>alert(1)</script></pre></main><img src=x onerror=alert(2)>"],
        )
        .await
        .expect("a name may be anything printable");
    client
        .batch_execute("set webhook.actor = '<script>alert(1)</script>'")
        .await
        .expect("an actor may be anything");
    client.execute("insert into orders values (1, $1, 1, $1)", &[&HOSTILE]).await.expect("so may a value");
    world
        .database
        .until("select exists (select from webhook.delivery where state = 'exhausted')", PATIENCE)
        .await;
    client
        .execute("update webhook.attempt set response = $1 || repeat('A', 3000), error = $1", &[&HOSTILE])
        .await
        .expect("what a receiver may have said");
    let event = world
        .database
        .text("select event_id from webhook.delivery where state = 'exhausted' order by sequence limit 1")
        .await
        .expect("an event");
    let cookie = admin.cookie(&ops).await;
    for path in ["/", "/subscriptions", "/subscriptions/new", "/events", "/deliveries"] {
        is_inert(path, &show(&admin, path, &cookie).await);
    }
    for path in [
        format!("/subscriptions/{id}"),
        format!("/events/{event}"),
        format!("/deliveries/{event}/{id}"),
        format!("/deliveries?key={}", "%3Cscript%3Ealert(1)%3C/script%3E"),
    ] {
        is_inert(&path, &show(&admin, &path, &cookie).await);
    }
    let shown = show(&admin, &format!("/deliveries/{event}/{id}"), &cookie).await.text;
    assert!(
        shown.contains("&lt;script&gt;alert(1)&lt;/script&gt;")
            && shown.contains("⟨U+202E⟩dehsup⟨U+202C⟩⟨U+001B⟩[31m"),
        "it is shown"
    );
    assert!(
        shown.contains("X-Note: •••") || shown.contains("x-note: •••"),
        "values of headers are not: {shown}"
    );
    assert!(
        shown.contains("webhookd does not store requests"),
        "the request is not passed off as a recording"
    );
    let missing =
        admin.ask("GET", "/deliveries/%3Cscript%3Ealert(1)%3C/1", None, &[("cookie", &cookie)], None).await;
    assert_eq!(missing.status, 404);
    is_inert("an error", &missing);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_lives_through_it() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    world.orders_belong_to("alice").await;
    let alice = token(&world.database, &["--role", "alice"]);
    let admin = Admin::start(&world.database, &[]).await;

    // The visitor signs in with a token, which scripts cannot read.
    assert_eq!(admin.ask("GET", "/", None, &[], None).await.header("location"), "/login");
    assert_eq!(send(&admin, "/login", "", &[("token", "whtok_nonsense")]).await.status, 401);
    let entered = send(&admin, "/login", "", &[("token", &alice)]).await;
    assert_eq!(entered.status, 303);
    let set = entered.header("set-cookie");
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict"), "{set}");
    let cookie = set.split(';').next().expect("a cookie").to_owned();
    let ours = show(&admin, "/subscriptions/new", &cookie).await.form_token();

    // The page shows a mistake with the database's message, and keeps the typed text.
    let url = world.receiver.url("/ok/page");
    let fields = [
        ("form_token", ours.as_str()),
        ("url", &url),
        ("name", "page"),
        ("events", "order.*\r\n"),
        ("timeout", "never"),
    ];
    let wrong = send(&admin, "/subscriptions", &cookie, &fields).await;
    assert_eq!(wrong.status, 422);
    assert!(
        wrong.text.contains("invalid input syntax for type interval")
            && wrong.text.contains("value=\"never\" aria-invalid=\"true\""),
        "{}",
        wrong.text
    );
    let made = send(&admin, "/subscriptions", &cookie, &fields[..4]).await;
    assert_eq!(made.status, 200, "{made:?}");
    let secret = made
        .text
        .split("whsec_")
        .nth(1)
        .and_then(|rest| rest.split('<').next())
        .expect("it is shown")
        .to_owned();
    world.receiver.expect_secret("/ok/page", &format!("whsec_{secret}"));
    let path = "/subscriptions/1";
    assert!(!show(&admin, path, &cookie).await.text.contains("whsec_"), "once");
    world.insert_orders(1, 1).await;
    world.receiver.wait_for("/ok/page", 1, PATIENCE).await;
    world.settled(PATIENCE).await;

    let act = async |action: &str, more: &[(&str, &str)]| {
        let fields = [&[("form_token", ours.as_str()), ("action", action)], more].concat();
        send(&admin, path, &cookie, &fields).await
    };
    assert_eq!(act("pause", &[("reason", "lunch")]).await.status, 303);
    assert!(show(&admin, path, &cookie).await.text.contains("lunch"));
    assert_eq!(act("resume", &[]).await.status, 303);
    assert_eq!(act("ping", &[]).await.status, 303);
    world.receiver.wait_for("/ok/page", 2, PATIENCE).await;
    let etag = show(&admin, path, &cookie).await.hidden("etag");
    let edited = act(
        "alter",
        &[
            ("etag", &etag),
            ("url", &url),
            ("name", "renamed"),
            ("events", "order.*"),
            ("compact", "on"),
            ("rate_limit", ""),
        ],
    )
    .await;
    assert_eq!(edited.status, 303, "{edited:?}");
    let row = world
        .database
        .text("select row(name, compact, events, timeout)::text from webhook.subscription")
        .await;
    assert_eq!(row.as_deref(), Some("(renamed,t,{order.*},00:00:15)"));
    let confirmed = ("confirmed", "yes");
    assert!(act("rotate", &[("overlap", "PT1H"), confirmed]).await.text.contains("whsec_"));
    let event = world
        .database
        .text("select event_id from webhook.delivery where type = 'order.created'")
        .await
        .expect("an event");
    let again = send(&admin, &format!("/deliveries/{event}/1"), &cookie, &[("form_token", &ours)]).await;
    assert_eq!(again.status, 303);
    let thrice = "select count(*) = 3 from webhook.attempt where outcome = 'succeeded'";
    world.database.until(thrice, PATIENCE).await;
    let found = admin.ask("GET", &format!("/search?q={event}"), None, &[("cookie", &cookie)], None).await;
    assert!(
        show(&admin, found.header("location"), &cookie)
            .await
            .text
            .contains(&format!("/deliveries/{event}/1"))
    );
    assert_eq!(act("delete", &[confirmed]).await.header("location"), "/subscriptions");
    assert_eq!(world.database.number("select count(*) from webhook.subscription").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sites_can_do_nothing() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let id = world.subscribe("/ok").await;
    let alice = token(&world.database, &["--role", "ops"]);
    let admin = Admin::start(&world.database, &["--admin-open-as", "ops"]).await;
    let path = format!("/subscriptions/{id}");
    let ours = show(&admin, &path, "").await.form_token();
    let body = form(&[("form_token", &ours), ("action", "pause")]);
    let kind = ("content-type", "application/x-www-form-urlencoded");
    for (headers, body, status) in [
        // Requests from elsewhere: without the token, with another visitor's, and from another
        // site's page with the right one.
        (vec![kind], form(&[("action", "pause")]), 403),
        (vec![kind], form(&[("form_token", &"0".repeat(64)), ("action", "pause")]), 403),
        (vec![kind, ("cookie", &*admin.cookie(&alice).await)], body.clone(), 403),
        (vec![kind, ("origin", "http://evil.example")], body.clone(), 403),
        (vec![kind, ("sec-fetch-site", "cross-site")], body.clone(), 403),
        // A foreign name that was made to resolve to this machine.
        (vec![kind, ("host", "evil.example")], body.clone(), 421),
    ] {
        let answer = admin.ask("POST", &path, None, &headers, Some(&body)).await;
        assert_eq!(answer.status, status, "{headers:?}: {answer:?}");
    }
    for headers in [
        [("origin", "http://evil.example"), kind],
        [("origin", "null"), kind],
        [("host", "evil.example"), kind],
    ] {
        let answer = admin.ask("POST", &format!("/v1{path}/pause"), None, &headers, None).await;
        assert!([403, 421].contains(&answer.status.as_u16()), "{headers:?}: {answer:?}");
    }
    assert_eq!(
        admin.ask("GET", "/v1/subscriptions", None, &[("host", "evil.example")], None).await.status,
        421
    );
    assert_eq!(
        world.database.number("select count(*) from webhook.subscription where enabled").await,
        1,
        "nothing has happened"
    );
    assert_eq!(
        admin.ask("POST", &path, None, &[kind], Some(&body)).await.status,
        303,
        "our own form is obeyed"
    );
    // Behind a proxy the origin has the proxy's name. The browser says whether the page is ours.
    let proxied = |site| [kind, ("origin", "https://hooks.example.com"), ("sec-fetch-site", site)];
    for (site, status) in [("same-origin", 303), ("same-site", 403), ("cross-site", 403), ("none", 403)] {
        let sign_in = form(&[("token", &alice)]);
        let answer = admin.ask("POST", "/login", None, &proxied(site), Some(&sign_in)).await;
        assert_eq!(answer.status, status, "{site}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_by_another_is_not_undone() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let id = world.subscribe_with("/ok", "name => 'first', compact => true").await;
    let admin = Admin::start(&world.database, &["--admin-open-as", "ops"]).await;
    let path = format!("/subscriptions/{id}");
    let opened = show(&admin, &path, "").await;
    let (ours, url, moved) =
        (opened.form_token(), world.receiver.url("/ok"), world.receiver.url("/ok/moved"));
    let save = async |etag: &str, name: &str, more: &[(&str, &str)]| {
        let fields = [("form_token", ours.as_str()), ("action", "alter"), ("etag", etag), ("url", &url)];
        send(&admin, &path, "", &[&fields[..], &[("name", name), ("events", "*")], more].concat()).await
    };
    let stored = async || {
        let row = "select row(name, url, compact, \"timeout\")::text from webhook.subscription";
        world.database.text(row).await.expect("it is there")
    };

    // After a mistake, an unticked box stays unticked and the tag stays valid.
    let wrong = save(&opened.hidden("etag"), "second", &[("timeout", "never")]).await;
    assert_eq!(wrong.status, 422, "{wrong:?}");
    assert!(wrong.text.contains("value=\"never\" aria-invalid=\"true\""), "{}", wrong.text);
    assert!(!wrong.text.contains(" checked"), "{}", wrong.text);
    assert_eq!(wrong.hidden("etag"), opened.hidden("etag"));

    // Another user changes the subscription in between.
    world.database.run(&format!("select webhook_alter({id}, url => '{moved}')")).await;
    let before = stored().await;
    let late = save(&opened.hidden("etag"), "second", &[("compact", "on")]).await;
    assert_eq!(late.status, 412, "{late:?}");
    assert!(late.text.contains("this subscription has changed since you opened the form"));
    assert!(late.text.contains(&format!("<dt>url</dt><dd class=\"any\">{moved}</dd>")), "{}", late.text);
    assert!(!late.text.contains("<dt>events</dt>"), "it is the same: {}", late.text);
    assert!(late.text.contains("name=\"name\" value=\"second\"") && late.text.contains(" checked"));
    assert_eq!(stored().await, before, "nothing has been saved");
    for etag in ["", "\"0\""] {
        assert_eq!(save(etag, "second", &[]).await.status, 412, "{etag}");
    }
    assert_eq!(stored().await, before);

    // A user who has seen the conflict may save again.
    assert_eq!(save(&late.hidden("etag"), "second", &[]).await.status, 303);
    assert_eq!(stored().await, format!("(second,{url},f,00:00:15)"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_a_subscription_is_found() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let alice = token(&world.database, &["--role", "alice"]);
    let admin = Admin::start(&world.database, &["--admin-open-as", "ops"]).await;
    world.insert_orders(1, 1).await;
    let event = world.event_ids("order.created").await.into_iter().next().expect("an event");
    let found = async |text: &str, cookie: &str| {
        let answer = admin.ask("GET", &format!("/search?q={text}"), None, &[("cookie", cookie)], None).await;
        assert_eq!(answer.status, 303, "{answer:?}");
        answer.header("location").to_owned()
    };
    let path = found(&format!("%20{event}"), "").await;
    assert_eq!(path, format!("/events/{event}"));
    assert!(show(&admin, &path, "").await.text.contains("order.created"));
    // alice may not read events, so the search leads her to her deliveries of this one.
    let cookie = admin.cookie(&alice).await;
    assert_eq!(found(&event, &cookie).await, format!("/deliveries?event={event}"));
    assert_eq!(found("evt_nonsense", "").await, "/deliveries?event=evt_nonsense");
    assert_eq!(found("order%2F1", "").await, "/deliveries?key=order%2F1");
    assert_eq!(found("", "").await, "/deliveries?");
    assert_eq!(found(&event, "webhookd_session=unknown").await, "/login");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_s_plots_are_its_own() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let tenant = |owner: &str| token(&world.database, &["--role", "tenants", "--owner", owner]);
    let (one, two) = (tenant("t1"), tenant("t2"));
    let broken = world.subscribe_with("/status/500", "owner => 't1', scope => 'all', retry => '{1h}'").await;
    let fine = world.subscribe_with("/ok", "owner => 't2', scope => 'all'").await;
    let admin = Admin::start(&world.database, &["--admin-open-as", "ops"]).await;
    // Rates are of the time between two samples.
    let path = |id: i64| format!("/subscriptions/{id}");
    admin.until(&path(fine), 200, "deliveries: now 0, at most 0").await;
    world.insert_orders(1, 7).await;
    world.receiver.wait_for("/ok", 7, PATIENCE).await;
    // The figures are from the last sample.
    admin.until(&path(broken), 200, "deliveries: now 7, at most 7").await;
    let own = show(&admin, &path(broken), &admin.cookie(&one).await).await.text;
    assert!(own.contains("aria-label=\"Queued, last 5 minutes. deliveries: now 7, at most 7\""), "{own}");
    assert!(own.contains(
        "aria-label=\"Deliveries per second, last 5 minutes. delivered: now 0, at most 0; failed: "
    ));
    let other = show(&admin, &path(fine), &admin.cookie(&two).await).await.text;
    assert!(other.contains("deliveries: now 0, at most 0"), "{other}");
    assert!(!other.contains("delivered: now 0, at most 0") && other.contains("failed: now 0, at most 0"));
    // The overview does not show another owner's figures either.
    let overview = show(&admin, "/", &admin.cookie(&two).await).await.text;
    assert!(overview.contains("queued: now 0, at most 0") && !overview.contains("now 7,"), "{overview}");
    assert!(show(&admin, "/", "").await.text.contains("queued: now 7, at most 7"));
    let hidden = admin.ask("GET", &path(broken), None, &[("cookie", &admin.cookie(&two).await)], None).await;
    assert_eq!(hidden.status, 404);
    assert!(!hidden.text.contains("Queued"));
}
