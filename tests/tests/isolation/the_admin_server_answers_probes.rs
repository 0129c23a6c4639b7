//! Promise: health and metrics answer, regardless of what callers of the admin server send or leave
//! open, and so does the API for other tokens. A session of the page ends with its token, with its
//! visitor's will, and with the process.

use e2e::{
    PATIENCE,
    admin::{Admin, token},
    world::World,
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// An answer within this time keeps a probe from killing the daemon.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Connects from this address of the machine.
async fn connect(admin: &Admin, from: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(format!("{from}:0").parse().expect("an address")).expect("it is this machine's");
    let address = admin.url.trim_start_matches("http://");
    socket.connect(address.parse().expect("an address")).await.expect("it listens")
}

/// Opens this many connections, and sends each the start of a request.
async fn leave_open(admin: &Admin, from: &str, count: usize, start: &str) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for _ in 0..count {
        let mut stream = connect(admin, from).await;
        // It may have been closed already.
        let _ = stream.write_all(start.as_bytes()).await;
        open.push(stream);
    }
    open
}

/// Sends a request on a new connection, as probes do. Returns the status.
async fn probe(admin: &Admin, from: &str, path: &str, token: &str) -> String {
    let mut stream = connect(admin, from).await;
    let ask = format!(
        "GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(ask.as_bytes()).await.expect("it reads");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer[9..]).into_owned()
}

async fn probes_are_answered(admin: &Admin, clerk: &str) {
    for path in ["/healthz", "/readyz", "/metrics", "/v1/subscriptions"] {
        let status = timeout(PROBE_TIMEOUT, probe(admin, "127.0.0.9", path, clerk)).await.expect(path);
        assert_eq!(status, "200", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_requests_that_never_end() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let (alice, clerk) =
        (token(&world.database, &["--role", "alice"]), token(&world.database, &["--role", "clerk"]));
    let admin = Admin::start(&world.database, &[]).await;
    admin.until("/readyz", 200, "ok").await;
    let cookie = admin.cookie(&alice).await;
    let head = |line: &str, headers: &str| format!("{line} HTTP/1.1\r\nhost: a\r\n{headers}");
    for start in [
        head(
            "POST /login",
            "content-type: application/x-www-form-urlencoded\r\ncontent-length: 100\r\n\r\ntoken=",
        ),
        head("POST /v1/subscriptions", "content-length: 100\r\n\r\n{"),
        head(
            "POST /v1/subscriptions",
            &format!("authorization: Bearer {alice}\r\ncontent-length: 100\r\n\r\n{{"),
        ),
        head("POST /subscriptions", &format!("cookie: {cookie}\r\ncontent-length: 100\r\n\r\n")),
        head("GET /live", &format!("cookie: {cookie}\r\n\r\n")),
        head("GET /", ""),
        String::new(),
    ] {
        let mut open = leave_open(&admin, "127.0.0.2", 128, &start).await;
        open.extend(leave_open(&admin, "127.0.0.3", 128, &start).await);
        probes_are_answered(&admin, &clerk).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_statements_that_wait() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let (ops, clerk) =
        (token(&world.database, &["--role", "ops"]), token(&world.database, &["--role", "clerk"]));
    let id = world.subscribe("/ok").await;
    let admin = Admin::start(&world.database, &[]).await;
    admin.until("/readyz", 200, "ok").await;
    let holder = world.database.client().await;
    let hold = format!("begin; select from webhook.subscription where id = {id} for update");
    holder.batch_execute(&hold).await.expect("it can be locked");
    let path = format!("/v1/subscriptions/{id}/pause");
    let start = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {ops}\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    let open = leave_open(&admin, "127.0.0.2", 16, &start).await;
    let waiting = "select exists (select from pg_stat_activity where wait_event_type = 'Lock' and query like '%webhook_pause%')";
    world.database.until(waiting, PATIENCE).await;
    probes_are_answered(&admin, &clerk).await;
    drop(open);
}

#[tokio::test(flavor = "multi_thread")]
async fn and_streams_end_with_their_token() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let (alice, bob) =
        (token(&world.database, &["--role", "alice"]), token(&world.database, &["--role", "bob"]));
    let admin = Admin::start(&world.database, &[]).await;
    let (mine, theirs) = (admin.cookie(&alice).await, admin.cookie(&bob).await);
    let ask = |cookie: &str| format!("GET /live HTTP/1.1\r\nhost: a\r\ncookie: {cookie}\r\n\r\n");
    let mut open = leave_open(&admin, "127.0.0.2", 9, &ask(&mine)).await;
    let mut refused = 0;
    for stream in &mut open {
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.expect("an answer");
        refused += usize::from(&answer[9..] == b"429");
    }
    assert_eq!(refused, 1, "eight for each token");
    assert_eq!(admin.status_of("/live", &[("cookie", &theirs)]).await, 200);
    world.database.run("delete from webhook.token where role = 'alice'").await;
    for stream in &mut open {
        let mut rest = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it ends").expect("in order");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn and_the_cookie_is_no_token() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let alice = token(&world.database, &["--role", "alice"]);
    let admin = Admin::start(&world.database, &[]).await;
    let cookie = admin.cookie(&alice).await;
    assert!(!cookie.contains(&alice) && cookie.starts_with("webhookd_session="), "{cookie}");
    let id = cookie.trim_start_matches("webhookd_session=");
    assert_eq!(admin.get("/v1/subscriptions", id).await.status, 401, "it opens the page only");
    let page = admin.ask("GET", "/subscriptions", None, &[("cookie", &cookie)], None).await;
    assert_eq!(page.status, 200);
    let form = [("cookie", &*cookie), ("content-type", "application/x-www-form-urlencoded")];
    let body = format!("form_token={}", page.form_token());
    assert_eq!(admin.ask("POST", "/logout", None, &form, Some(&body)).await.status, 303);
    let after = admin.ask("GET", "/subscriptions", None, &[("cookie", &cookie)], None).await;
    assert_eq!((after.status.as_u16(), after.header("location")), (303, "/login"), "signed out");
    // Over TLS, browsers send it to this host only, and never in clear.
    let login = [("content-type", "application/x-www-form-urlencoded"), ("x-forwarded-proto", "https")];
    let answer = admin.ask("POST", "/login", None, &login, Some(&format!("token={alice}"))).await;
    let set = answer.header("set-cookie");
    assert!(
        set.starts_with("__Host-webhookd_session=") && set.contains("; Path=/;") && set.ends_with("; Secure"),
        "{set}"
    );
    let secure = set.split(';').next().expect("a cookie");
    assert_eq!(admin.ask("GET", "/subscriptions", None, &[("cookie", secure)], None).await.status, 200);
    // Another process knows none of them.
    let other = Admin::start(&world.database, &[]).await;
    assert_eq!(other.ask("GET", "/subscriptions", None, &[("cookie", secure)], None).await.status, 303);
}
