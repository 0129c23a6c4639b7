//! Promise: no caller of the admin server blocks it for others by being slow, numerous or
//! repetitive. A repeated request is executed once.

use e2e::{
    PATIENCE,
    admin::{Admin, token},
    process::niceness_of,
    receiver::SECRET,
    world::World,
};
use futures_util::future::join_all;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::{interval, timeout},
};

/// The longest that a request waits for its turn.
const TURN: Duration = Duration::from_millis(25);

/// Returns the address on which the server listens.
fn address(admin: &Admin) -> String {
    admin.url.trim_start_matches("http://").trim_end_matches('/').to_owned()
}

async fn connect(admin: &Admin) -> TcpStream {
    TcpStream::connect(address(admin)).await.expect("it listens")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_holds_no_session() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let (alice, bob) =
        (token(&world.database, &["--role", "alice"]), token(&world.database, &["--role", "bob"]));
    let admin = Admin::start(&world.database, &[]).await;
    // More requests than there are sessions, each with a body that does not arrive.
    let cookie = admin.cookie(&alice).await;
    let mut slow = Vec::new();
    for path in ["/v1/subscriptions", "/subscriptions"].into_iter().cycle().take(10) {
        let mut stream = connect(&admin).await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {alice}\r\ncookie: {cookie}\r\n\
             content-type: application/json\r\ncontent-length: 1000\r\n\r\n{{",
            address(&admin)
        );
        stream.write_all(head.as_bytes()).await.expect("it reads");
        slow.push(stream);
    }
    // If they held sessions in open transactions, other requests would get none.
    let answers = async {
        for _ in 0..20 {
            assert_eq!(admin.get("/v1/subscriptions", &bob).await.status, 200);
        }
    };
    timeout(Duration::from_secs(4), answers).await.expect("others are answered meanwhile");
    drop(slow);
}

/// Requests go to the database one after the other, but a request that waits there delays no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_statement_delays_no_other_request() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let (ops, clerk) =
        (token(&world.database, &["--role", "ops"]), token(&world.database, &["--role", "clerk"]));
    let id = world.subscribe("/ok").await;
    let admin = Admin::start(&world.database, &[]).await;
    // A new token needs a transaction of its own, which may have the turn. A known one needs none.
    assert_eq!(admin.get("/v1/subscriptions", &ops).await.status, 200);
    let none =
        "select not exists (select from pg_stat_activity where usename = 'daemon' and xact_start is not null
                                   and query not like 'call webhook.gate_sleep%')";
    world.database.until(none, PATIENCE).await;
    let holder = world.database.client().await;
    holder
        .batch_execute(&format!("begin; select from webhook.subscription where id = {id} for update"))
        .await
        .expect("it is there");
    let path = format!("/v1/subscriptions/{id}/pause");
    let pause = admin.post(&path, &ops, "{}");
    let others = async {
        let waits = "select exists (select from pg_stat_activity where usename = 'daemon' and wait_event_type = 'Lock')";
        world.database.until(waits, PATIENCE).await;
        let began = Instant::now();
        for _ in 0..10 {
            assert_eq!(admin.get("/v1/subscriptions", &clerk).await.status, 200);
        }
        assert!(began.elapsed() >= 10 * TURN, "each has waited for its turn: {:?}", began.elapsed());
        assert_eq!(world.database.text(waits).await.as_deref(), Some("t"), "it waits still");
        holder.batch_execute("rollback").await.expect("it holds the lock");
    };
    let (paused, ()) = tokio::join!(pause, others);
    assert!(paused.status.is_success(), "{paused:?}");
}

/// Checks that the sessions for requests and polls are nice, and the delivering ones are not.
#[tokio::test(flavor = "multi_thread")]
async fn its_sessions_stand_back() {
    const SESSIONS: &str = "select pid from pg_stat_activity where usename = 'daemon' order by pid";
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let ops = token(&world.database, &["--role", "ops"]);
    let admin = Admin::start(&world.database, &[]).await;
    // The test's own session is not counted.
    let watcher = world.database.client().await;
    // The niceness that the whole run started with, as in `nice make test`.
    let (started_with, _) = niceness_of(std::process::id().cast_signed()).expect("this process is alive");
    let lowered = started_with.max(10);
    // The kernel may postpone the change; every request and every poll asks again.
    let mut asks = interval(Duration::from_millis(100));
    let all = async {
        loop {
            asks.tick().await;
            assert_eq!(admin.get("/v1/subscriptions", &ops).await.status, 200);
            let sessions = watcher.query(SESSIONS, &[]).await.expect("they are listed");
            let sessions: Option<Vec<_>> = sessions.iter().map(|row| niceness_of(row.get(0))).collect();
            // One has ended meanwhile.
            let Some(sessions) = sessions else { continue };
            let is_lowered =
                |(own, session): &&(i32, Option<i32>)| *own == lowered && session.is_none_or(|of| of == 10);
            let nice = sessions.iter().filter(is_lowered).count();
            // Requests that follow each other closely may open a second session. If the run itself
            // is as nice, the process does not show which sessions have begun.
            let begun = if lowered == started_with {
                nice
            } else {
                sessions.iter().filter(|(own, _)| *own == lowered).count()
            };
            // At least one session for requests, and one for polls.
            if nice >= 2 && nice == begun {
                return (sessions, nice);
            }
        }
    };
    let (sessions, nice) = timeout(PATIENCE, all).await.expect("they stand back");
    assert!(sessions.len() > 4, "{sessions:?}");
    let has_sessions = sessions.iter().all(|(_, session)| session.is_some());
    if has_sessions || lowered != started_with {
        let is_rest =
            |(own, session): &&(i32, Option<i32>)| *own == started_with && session.is_none_or(|of| of == 0);
        let rest = sessions.iter().filter(is_rest).count();
        assert!(rest > 4 && rest == sessions.len() - nice, "{sessions:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_at_once_do_not_wait_for_each_other() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let alice = token(&world.database, &["--role", "alice"]);
    let admin = Admin::start(&world.database, &[]).await;
    let cookie = admin.cookie(&alice).await;
    let page = admin.ask("GET", "/subscriptions/new", None, &[("cookie", &cookie)], None).await;
    let body = format!("form_token={}&url=https://a.example/&events=x.y", page.form_token());
    let headers = [("cookie", &*cookie), ("content-type", "application/x-www-form-urlencoded")];
    let began = Instant::now();
    // Valid and invalid forms, more than there are sessions.
    let bad = format!("{body}&timeout=never");
    let sent = (0..12).map(|at| {
        let body = if at % 2 == 0 { &body } else { &bad };
        admin.ask("POST", "/subscriptions", None, &headers, Some(body))
    });
    for (at, answer) in join_all(sent).await.into_iter().enumerate() {
        let want = if at % 2 == 0 { 200 } else { 422 };
        assert_eq!(answer.status, want, "{answer:?}");
    }
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "none has waited for a session in vain: {:?}",
        began.elapsed()
    );
    assert_eq!(world.database.number("select count(*) from webhook.subscription").await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_one_address_are_bounded_and_do_not_hold_up_the_end() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let admin = Admin::start(&world.database, &["--admin-open-as", "clerk"]).await;
    // The client itself keeps one connection alive.
    assert_eq!(admin.ask("GET", "/healthz", None, &[], None).await.status, 200);
    let mut held = Vec::new();
    for _ in 0..127 {
        held.push(connect(&admin).await);
    }
    // An answer on the last connection proves that the server has accepted all of them.
    let last = held.last_mut().expect("one");
    let ask = format!("GET /healthz HTTP/1.1\r\nhost: {}\r\n\r\n", address(&admin));
    last.write_all(ask.as_bytes()).await.expect("it reads");
    let mut answer = [0; 12];
    timeout(PATIENCE, last.read_exact(&mut answer)).await.expect("in time").expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
    let mut further = connect(&admin).await;
    let _ = further.write_all(ask.as_bytes()).await;
    let ended = timeout(PATIENCE, further.read(&mut answer)).await.expect("it is closed");
    assert!(matches!(ended, Ok(0) | Err(_)), "it is not answered: {ended:?}");
    let began = Instant::now();
    assert!(admin.daemon.sigterm(PATIENCE).await.success());
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    drop(held);
}

/// Sends many requests without waiting for answers, from this address of the machine and with these
/// forwarded names. Returns how many were answered and how many were refused.
async fn flood(admin: &Admin, from: &str, name: impl Fn(usize) -> String) -> (usize, usize) {
    const REQUESTS: usize = 3000;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(format!("{from}:0").parse().expect("an address")).expect("it is this machine's");
    let stream = socket.connect(address(admin).parse().expect("an address")).await.expect("it listens");
    let (mut read, mut write) = stream.into_split();
    let asks: String = (1..=REQUESTS)
        .map(|at| {
            let end = if at == REQUESTS { "connection: close\r\n" } else { "" };
            format!("GET /healthz HTTP/1.1\r\nhost: a\r\nx-forwarded-for: {}\r\n{end}\r\n", name(at))
        })
        .collect();
    let mut answers = String::new();
    let (written, answered) = timeout(PATIENCE, async {
        tokio::join!(write.write_all(asks.as_bytes()), read.read_to_string(&mut answers))
    })
    .await
    .expect("all in time");
    written.expect("it reads");
    answered.expect("it answers");
    (answers.matches("HTTP/1.1 200").count(), answers.matches("HTTP/1.1 429").count())
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_apply_to_the_client_that_a_trusted_proxy_names() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let _ = token(&world.database, &["--role", "clerk"]);
    let admin = Admin::start(&world.database, &["--admin-trust-proxy", "127.0.0.1"]).await;
    let each = |at: usize| format!("127.0.0.9, 198.51.{}.{}", at / 250, at % 250);
    let forged = flood(&admin, "127.0.0.2", each).await;
    assert!(forged.1 > 0 && forged.0 + forged.1 == 3000, "they are one: {forged:?}");
    assert_eq!(flood(&admin, "127.0.0.1", each).await, (3000, 0), "they are many");
    let one = flood(&admin, "127.0.0.1", |at| format!("198.51.100.{}, 203.0.113.1", at % 250)).await;
    assert!(one.1 > 0 && one.0 + one.1 == 3000, "it does not believe its own input: {one:?}");
    // A trusted proxy's connections serve many clients, so they are not limited.
    let ask = format!("GET /healthz HTTP/1.1\r\nhost: {}\r\n\r\n", address(&admin));
    let mut held = Vec::new();
    for _ in 0..200 {
        let mut further = connect(&admin).await;
        let mut answer = [0; 12];
        further.write_all(ask.as_bytes()).await.expect("it reads");
        timeout(PATIENCE, further.read_exact(&mut answer)).await.expect("in time").expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200");
        held.push(further);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_at_once_or_again_is_done_once() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let alice = token(&world.database, &["--role", "alice"]);
    let admin = Admin::start(&world.database, &[]).await;
    let body = json!({"url": "https://a.example/", "events": ["x.y"], "secret": SECRET}).to_string();
    let key = [("idempotency-key", "one")];
    let create = || admin.ask("POST", "/v1/subscriptions", Some(&alice), &key, Some(&body));
    let mut statuses: Vec<u16> =
        join_all((0..10).map(|_| create())).await.iter().map(|answer| answer.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [&[200; 9][..], &[201]].concat());
    assert_eq!(world.database.number("select count(*) from webhook.subscription").await, 1);
    // After a day the key is free again, also for a first request.
    world.database.run("update webhook.idempotency set created_at = now() - interval '25 hours'").await;
    assert_eq!(create().await.status, 201);
    assert_eq!(world.database.number("select count(*) from webhook.subscription").await, 2);

    // Of ten requests that have seen the same state, one changes it.
    let etag = admin.get("/v1/subscriptions/1", &alice).await.header("etag").to_owned();
    let seen = [("if-match", &*etag)];
    let changes = (1..=10).map(|seconds| {
        let (admin, alice) = (&admin, &alice);
        async move {
            let change = format!(r#"{{"timeout":"PT{seconds}S"}}"#);
            admin.ask("PATCH", "/v1/subscriptions/1", Some(alice), &seen, Some(&change)).await.status.as_u16()
        }
    });
    let mut statuses = join_all(changes).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [&[200][..], &[412; 9]].concat());
    // Each kind of change checks If-Match; several header lines are one list.
    for (action, body) in [("pause", r#"{"reason":"late"}"#), ("resume", "{}"), ("rotate", "{}")] {
        let path = format!("/v1/subscriptions/1/{action}");
        assert_eq!(admin.ask("POST", &path, Some(&alice), &seen, Some(body)).await.status, 412, "{action}");
    }
    assert_eq!(world.database.number("select count(*) from webhook.subscription where enabled").await, 2);
    let now = admin.get("/v1/subscriptions/1", &alice).await.header("etag").to_owned();
    let both = [("if-match", &*etag), ("if-match", &*now)];
    let paused = admin.ask("POST", "/v1/subscriptions/1/pause", Some(&alice), &both, Some("{}")).await;
    assert_eq!(paused.status, 200, "{paused:?}");

    // A client repeats the request because the answer was lost. That makes no second secret.
    let now = paused.header("etag").to_owned();
    let seen = [("if-match", &*now)];
    let rotate = || admin.ask("POST", "/v1/subscriptions/1/rotate", Some(&alice), &seen, Some("{}"));
    let rotated = rotate().await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    assert_eq!(rotate().await.status, 412);
    let now = admin.get("/v1/subscriptions/1", &alice).await.header("etag").to_owned();
    assert_eq!(rotated.header("etag"), now);
    assert_eq!(
        world.database.number("select count(*) from webhook.secret where subscription_id = 1").await,
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_gives_the_daemon_s_own_rights() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let alice = token(&world.database, &["--role", "alice"]);
    // For SET ROLE, `none` is not a role but the keyword that resets the role. So no token can be
    // for it.
    world.database.run("update webhook.token set role = 'none'").await;
    let admin = Admin::start(&world.database, &[]).await;
    let answer = admin.get("/v1/subscriptions", &alice).await;
    assert_eq!(answer.status, 401, "{answer:?}");
}
