//! Promise: the page explains the events to receivers exactly as the documents do, to callers who
//! may read the documents. It needs no JavaScript, and hostile comments do no harm.

use e2e::{
    admin::{Admin, Answer, token},
    cluster::{Cluster, Database},
    daemon::binary,
};
use serde_json::Value;
use std::{
    io::Write as _,
    process::{Command, Stdio},
};

const TABLES: &str = r#"
    create type mood as enum ('sad', 'ok & "well"');
    create table orders (id bigint primary key, total numeric(8,2) not null check (total > 0), state text check (state in ('open', 'paid')),
                         mood mood not null, at timestamptz, tags text[], secret_note text);
    comment on table orders is 'What customers buy';
    comment on column orders.total is 'In euros, with <b>tax</b>';
    comment on column orders.state is E'<script>alert(1)</script> \u202edehsup\u202c';
    create function owner_of(orders) returns text language sql immutable return 'alice';
    select webhook_watch('orders', noun => 'order', exclude => '{secret_note}', owner_function => 'owner_of');
    insert into webhook.event_type (type, description, data_schema, example) values
        ('invoice.paid', 'An invoice was paid', '{"type":"object","required":["number"],"properties":{"number":{"type":"string","description":"As printed"}}}',
         '{"number":"2026-17"}');
    insert into webhook.event_type (type) values ('openapi.json')"#;

async fn show(admin: &Admin, path: &str, token: &str) -> Answer {
    admin.ask("GET", path, None, &[("cookie", &admin.cookie(token).await)], None).await
}

/// Returns the text of some markup.
fn plain(markup: &str) -> String {
    markup.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}

/// Returns the text between two marks.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let rest = text.split_once(from).unwrap_or_else(|| panic!("no {from}")).1;
    rest.split_once(to).unwrap_or_else(|| panic!("no {to}")).0
}

/// Returns the cells of the table of fields, row by row.
fn rows(page: &str) -> Vec<Vec<String>> {
    let table = between(page, "<table class=\"fields cards\">", "</table>");
    let strip = |cell: &str| {
        let mut text = String::new();
        let mut depth = 0;
        for character in cell.chars() {
            match character {
                '<' => depth += 1,
                '>' if depth > 0 => depth -= 1,
                other if depth == 0 => text.push(other),
                _ => {}
            }
        }
        plain(&text)
    };
    let body = between(table, "<tbody>", "</tbody>");
    body.split("<tr>")
        .skip(1)
        .map(|row| row.replace("</th>", "</td>").split("</td>").map(strip).take(5).collect())
        .collect()
}

async fn started() -> (Database, Admin) {
    let cluster = Cluster::start().await;
    let database = cluster.database("app").await;
    Admin::roles(&database).await;
    database.run(TABLES).await;
    database.run("create role visitor; grant visitor to daemon").await;
    token(&database, &["--role", "ops"]);
    let admin = Admin::start(&database, &[]).await;
    (database, admin)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_documents_say() {
    let (database, admin) = started().await;
    let clerk = token(&database, &["--role", "clerk"]);
    let list = show(&admin, "/docs", &clerk).await;
    assert_eq!(list.status, 200);
    for words in [
        "/docs/order.created",
        "/docs/order.truncated",
        "/docs/invoice.paid",
        "An invoice was paid",
        "What customers buy",
        "6 event types",
    ] {
        assert!(list.text.contains(words), "{words}");
    }
    for (words, found) in
        [("INVOICE", 1), ("customers%20buy", 4), ("order.up", 1), ("nothing%20like%20it", 0), ("", 6)]
    {
        let answer = show(&admin, &format!("/docs?q={words}"), &clerk).await;
        assert_eq!(answer.text.matches("<th scope=\"row\"><a href=\"/docs/").count(), found, "{words}");
    }

    let page = show(&admin, "/docs/order.updated", &clerk).await;
    assert_eq!(page.status, 200);
    let shown = rows(&page.text);
    let row = |name: &str| {
        shown.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("{name}: {shown:#?}")).clone()
    };
    assert_eq!(
        shown.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(),
        ["id", "total", "state", "mood", "at", "tags"],
        "in their order, without what is excluded"
    );
    assert_eq!(row("total")[2..], ["never", "> 0 and < 1000000; or \"NaN\"", "In euros, with <b>tax</b>"]);
    assert_eq!(row("state")[1..4], ["string", "allowed", "\"open\", \"paid\""]);
    assert_eq!(row("mood")[1..4], ["string", "never", "\"sad\", \"ok & \\\"well\\\"\""]);
    assert_eq!(row("id")[1..4], ["integer", "never", "-9223372036854775808 to 9223372036854775807"]);
    assert!(row("tags")[1].starts_with("array of string"), "{:?}", row("tags"));
    assert!(row("at")[3].contains("format date-time"));
    assert!(!page.text.contains("secret_note"), "a column that is not captured is not shown");

    // The page and the document agree.
    let document: Value = database
        .text("select webhook_openapi()::text")
        .await
        .and_then(|text| serde_json::from_str(&text).ok())
        .expect("a document");
    let of_type = &document["webhooks"]["order.updated"]["post"];
    let example = database
        .text("select webhook_openapi() #> '{webhooks,order.updated,post,requestBody,content,application/json,example}'")
        .await
        .expect("an example");
    assert!(plain(&page.text).contains(&example), "the document's example, to the byte: {example}");
    assert!(plain(&page.text).contains(of_type["description"].as_str().expect("a description")));
    let schema = database.text("select webhook_event_schema('order.updated')::text").await.expect("a schema");
    assert_eq!(show(&admin, "/docs/order.updated/schema.json", &clerk).await.text, schema);
    for (name, function) in [("openapi.json", "webhook_openapi"), ("asyncapi.json", "webhook_asyncapi")] {
        let taken = show(&admin, &format!("/docs/documents/{name}"), &clerk).await;
        assert_eq!(Some(taken.text.clone()), database.text(&format!("select {function}()::text")).await);
        assert_eq!(taken.header("content-disposition"), format!("attachment; filename=\"{name}\""));
        assert_eq!(taken.header("content-type"), "application/json");
    }
    assert_eq!(
        show(&admin, "/docs/openapi.json", &clerk).await.status,
        200,
        "an event type may be called so"
    );
    for path in [
        "/docs/order.nothing",
        "/docs/%3Cscript%3E",
        "/docs/documents/x.json",
        "/docs/order.nothing/schema.json",
    ] {
        assert_eq!(show(&admin, path, &clerk).await.status, 404, "{path}");
    }
}

/// The page's requests verify, and so do its programs.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_verifies() {
    let (database, admin) = started().await;
    let alice = token(&database, &["--role", "alice"]);
    let page = show(&admin, "/docs/order.created", &alice).await.text;
    let formats =
        ["standard", "cloudevents-structured", "cloudevents-binary", "form", "raw", "supabase", "hasura"];
    for format in formats {
        let shown = plain(between(
            between(&page, &format!("Format <code>{format}</code>"), "</details>"),
            "<pre tabindex=\"0\">",
            "</pre>",
        ));
        let (head, body) = shown.split_once("\n\n").expect("a head and a body");
        let mut command = Command::new(binary());
        command.args([
            "verify",
            "--tolerance",
            "any",
            "--secret",
            "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        ]);
        for line in head.lines().skip(1) {
            command.args(["--header", line]);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        child.stdin.take().expect("it is piped").write_all(body.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{format}: {}\n{shown}", String::from_utf8_lossy(&output.stderr));
    }
    let text = plain(&page);
    for file in ["verify.py", "verify.mjs", "verify.rb", "verify.php", "verify.go", "Verify.java"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/receivers").join(file);
        assert!(text.contains(&std::fs::read_to_string(path).expect("a text")), "{file} as the tests run it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn to_those_who_may() {
    let (database, admin) = started().await;
    let may = [
        token(&database, &["--role", "alice"]),
        token(&database, &["--role", "clerk"]),
        token(&database, &["--role", "ops"]),
        token(&database, &["--role", "tenants", "--owner", "t1"]),
    ];
    let visitor = token(&database, &["--role", "visitor"]);
    let paths = [
        "/docs",
        "/docs/order.created",
        "/docs/order.created/schema.json",
        "/docs/documents/openapi.json",
        "/docs/documents/asyncapi.json",
    ];
    for path in paths {
        for token in &may {
            assert_eq!(show(&admin, path, token).await.status, 200, "{path}");
        }
        let refused = show(&admin, path, &visitor).await;
        assert!(
            !refused.text.contains("total") && !refused.text.contains("What customers buy"),
            "{path}: {}",
            refused.text
        );
        assert!(
            refused.status == 403 || refused.text.contains("The role of this token is not one of them"),
            "{path}: {refused:?}"
        );
        let unknown = admin.ask("GET", path, None, &[], None).await;
        assert_eq!((unknown.status.as_u16(), unknown.header("location")), (303, "/login"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_accessible_pages() {
    let (database, admin) = started().await;
    let alice = token(&database, &["--role", "alice"]);
    for path in [
        "/docs",
        "/docs?q=%22%3E%3Cscript%3Ealert(1)",
        "/docs/order.created",
        "/docs/invoice.paid",
        "/docs/openapi.json",
    ] {
        let answer = show(&admin, path, &alice).await;
        assert_eq!(answer.status, 200, "{path}");
        let text = &answer.text;
        for markup in ["<script>", " style=", " onclick=", "javascript:", "<b>tax"] {
            assert!(!text.contains(markup), "{path}: {markup}");
        }
        assert!(!text.contains(['\u{202e}', '\u{202c}']), "{path}");
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(!text.contains("src=\"http") && !text.contains("href=\"http"), "{path}: no other host");
        // One main heading, captions, row and column headers, labels; the current page is marked in
        // the navigation.
        assert_eq!(text.matches("<h1").count(), 1, "{path}");
        assert_eq!(text.matches("<table").count(), text.matches("<caption").count(), "{path}");
        assert!(
            text.matches("<th").count()
                == text.matches("<th scope=").count() + text.matches("<thead").count(),
            "{path}"
        );
        for field in text.split("<input ").skip(1).filter(|field| !field.contains("type=\"hidden\"")) {
            let id = between(field, "id=\"", "\"");
            assert!(
                text.contains(&format!("<label for=\"{id}\""))
                    || text.contains(&format!("<label class=\"hidden\" for=\"{id}\"")),
                "{path}: {id}"
            );
        }
        assert!(text.contains("<a href=\"/docs\" aria-current=\"page\">Docs</a>"), "{path}");
        assert!(text.contains("<html lang=\"en\">") && text.contains("id=\"main\""), "{path}");
        // The keyboard can scroll everything that scrolls.
        assert_eq!(text.matches("<pre").count(), text.matches("<pre tabindex=\"0\"").count(), "{path}");
    }
    let page = show(&admin, "/docs/order.created", &alice).await.text;
    assert!(
        page.contains("&lt;script&gt;alert(1)&lt;/script&gt; ⟨U+202E⟩dehsup⟨U+202C⟩"),
        "it is shown as it is"
    );
}
