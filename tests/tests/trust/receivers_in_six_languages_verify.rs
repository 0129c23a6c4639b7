//! Promise: the programs of `docs/receivers`, which the documentation and the page show, accept a
//! real daemon's requests and reject forged ones. `scripts/setup.sh test` installs their languages.

use e2e::{
    PATIENCE,
    daemon::Daemon,
    receiver::{Received, SECRET},
    world::World,
};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};

const PAIR: &str =
    "whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA==";
const PUBLIC: &str = "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";
const OTHER_SECRET: &str = "whsec_AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER_PUBLIC: &str = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

/// A receiver: a CGI program.
struct Program {
    language: &'static str,
    command: Vec<String>,
    /// Whether it supports v1a too.
    has_v1a: bool,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/receivers")
}

/// Runs a command to its end and panics if it fails.
fn build(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error}; scripts/setup.sh test installs what is missing")
    });
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Returns all six programs; Go and Java are compiled once.
fn programs(out: &Path) -> Vec<Program> {
    let source = |file: &str| folder().join(file).to_str().expect("a path of text").to_owned();
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    let cache = target.join("foreign/go");
    fs::create_dir_all(&cache).expect("a folder");
    let cache = cache.canonicalize().expect("it is there");
    let binary = out.join("verify-go").to_str().expect("a path of text").to_owned();
    build(
        Command::new("go")
            .args(["build", "-o", &binary, &source("verify.go")])
            .env("GOCACHE", &cache)
            .env("GOPATH", cache.join("path"))
            .env("GOFLAGS", "-mod=mod")
            .env("GOPROXY", "off")
            .env("CGO_ENABLED", "0"),
    );
    let classes = out.to_str().expect("a path of text").to_owned();
    build(Command::new("javac").args(["-Xlint:all", "-Werror", "-d", &classes, &source("Verify.java")]));
    let program = |language, words: &[&str], has_v1a| Program {
        language,
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        has_v1a,
    };
    vec![
        program("Python", &["python3", &source("verify.py")], false),
        program("JavaScript", &["node", &source("verify.mjs")], true),
        program("Ruby", &["ruby", "-W", &source("verify.rb")], true),
        program(
            "PHP",
            &["php", "-d", "error_reporting=E_ALL", "-d", "display_errors=stderr", &source("verify.php")],
            true,
        ),
        program("Go", &[&binary], true),
        program("Java", &["java", "-Xshare:auto", "-cp", &classes, "Verify"], true),
    ]
}

/// A request and its expected verdict.
#[derive(Clone)]
struct Case {
    what: String,
    secret: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The age of a signature that is made at the time of sending, in seconds from then. `None`
    /// sends the request unchanged.
    age: Option<i64>,
    is_genuine: bool,
}

impl Case {
    fn of(what: &str, received: &Received, secret: &str) -> Self {
        Self {
            what: what.to_owned(),
            secret: secret.to_owned(),
            headers: received.headers.clone(),
            body: received.body.to_vec(),
            age: None,
            is_genuine: true,
        }
    }

    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(one, _)| one.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    /// Returns the same case with this header, or without it if `value` is `None`.
    fn with(&self, what: &str, is_genuine: bool, name: &str, value: Option<&str>) -> Self {
        let mut case = Self { what: what.to_owned(), is_genuine, ..self.clone() };
        case.headers.retain(|(one, _)| !one.eq_ignore_ascii_case(name));
        case.headers.extend(value.map(|value| (name.to_owned(), value.to_owned())));
        case
    }

    fn signed_at(&self, what: &str, is_genuine: bool, seconds: i64) -> Self {
        Self { what: what.to_owned(), is_genuine, age: Some(seconds), ..self.clone() }
    }

    /// Returns the case as it is sent now.
    fn sent(&self) -> Self {
        let Some(age) = self.age else { return self.clone() };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let timestamp = i64::try_from(now.as_secs()).expect("not that late") + age;
        let secret = signature::Secret::parse(SECRET).expect("a secret");
        let token = signature::sign(&secret, self.header("webhook-id"), timestamp, &self.body);
        let (what, is_genuine) = (self.what.as_str(), self.is_genuine);
        let dated = self.with(what, is_genuine, "webhook-timestamp", Some(&timestamp.to_string()));
        dated.with(what, is_genuine, "webhook-signature", Some(&token))
    }

    fn with_body(&self, what: &str, body: &[u8]) -> Self {
        Self { what: what.to_owned(), body: body.to_vec(), is_genuine: false, ..self.clone() }
    }
}

/// Runs a program as a web server does (RFC 3875) and returns its answer.
fn answer(program: &Program, case: &Case) -> String {
    let case = &case.sent();
    let mut command = Command::new(&program.command[0]);
    command
        .args(&program.command[1..])
        .env_clear()
        .envs(
            ["PATH", "HOME", "JAVA_HOME", "PYENV_ROOT", "PYENV_VERSION"]
                .into_iter()
                .filter_map(|name| Some((name, std::env::var_os(name)?))),
        )
        .env("GATEWAY_INTERFACE", "CGI/1.1")
        .env("SERVER_PROTOCOL", "HTTP/1.1")
        .env("REQUEST_METHOD", "POST")
        .env("HTTP_HOST", "receiver.example")
        .env("REQUEST_URI", "/hooks")
        .env("CONTENT_LENGTH", case.body.len().to_string())
        .env("CONTENT_TYPE", case.header("content-type"))
        .env("WEBHOOK_SECRET", &case.secret);
    for (name, value) in &case.headers {
        if name.to_lowercase().starts_with("webhook-") {
            command.env(format!("HTTP_{}", name.to_uppercase().replace('-', "_")), value);
        }
    }
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap_or_else(
            |error| panic!("{}: {error}; scripts/setup.sh test installs it", program.language),
        );
    // A program that rejects the headers need not read the body.
    let _ = child.stdin.take().expect("it is piped").write_all(&case.body);
    let output = child.wait_with_output().expect("it ends");
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && error.is_empty(), "{}: {}: {error}", program.language, case.what);
    out.into_owned()
}

/// Returns every kind of forged request, and genuine but unusual ones.
fn cases(received: &Received) -> Vec<Case> {
    let genuine = Case::of("as it came", received, SECRET);
    let token = genuine.header("webhook-signature").to_owned();
    let signature = |what: &str, is_genuine, value: &str| {
        genuine.with(what, is_genuine, "webhook-signature", Some(value))
    };
    let (flipped, longer) = (
        genuine
            .body
            .iter()
            .enumerate()
            .map(|(at, byte)| if at == 9 { byte ^ 1 } else { *byte })
            .collect::<Vec<u8>>(),
        [genuine.body.as_slice(), b"\n"].concat(),
    );
    let long = "9".repeat(5000);
    let mut cases = vec![
        Case {
            what: "another secret".to_owned(),
            secret: OTHER_SECRET.to_owned(),
            is_genuine: false,
            ..genuine.clone()
        },
        genuine.with_body("a bit of the body", &flipped),
        genuine.with_body("a line end more", &longer),
        genuine.with_body("no body", b""),
        genuine.signed_at("an hour old", false, -3600),
        genuine.signed_at("from the future", false, 3600),
        genuine.signed_at("four minutes old", true, -240),
        genuine.signed_at("four minutes ahead", true, 240),
        genuine.with("another id", false, "webhook-id", Some("evt_00000000000001")),
        genuine.with("no id", false, "webhook-id", None),
        genuine.with("no timestamp", false, "webhook-timestamp", None),
        genuine.with("no signature", false, "webhook-signature", None),
        signature("an empty signature", false, ""),
        signature("a version alone", false, "v1"),
        signature("a version and a comma", false, "v1,"),
        signature("not base64", false, "v1,???? v1a,????"),
        signature("not ASCII", false, "v1,ä"),
        signature("cut", false, &token[..token.len() - 4]),
        signature("under another version", false, &token.replacen("v1,", "v2,", 1)),
        signature("under the other key's version", false, &token.replacen("v1,", "v1a,", 1)),
        signature("joined by a comma", false, &format!("v1,AAAA,{token}")),
        signature("the second fits", true, &format!("v1,AAAA {token}")),
        signature("the first fits", true, &format!("{token} v9,???? v1")),
    ];
    for timestamp in
        ["", "x", "1e9", "0x7fffffff", "+1795318680", " 1795318680 ", "-1", "1795318680.5", "NaN", &long]
    {
        cases.push(genuine.with(
            &format!("timestamp {timestamp:.20}"),
            false,
            "webhook-timestamp",
            Some(timestamp),
        ));
    }
    cases.push(genuine);
    cases
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_genuine_is_accepted_and_nothing_else() {
    let out = tempfile::tempdir().expect("a folder");
    let out_path = out.path().to_owned();
    let programs = tokio::task::spawn_blocking(move || programs(&out_path)).await.expect("they are built");

    let world = World::new().await;
    world.subscribe("/ok").await;
    let both = world.subscribe("/ok/both").await;
    let alter =
        format!("select webhook_alter({both}, signature => '{{standard,standard-v1a}}', secret => '{PAIR}')");
    world.database.run(&alter).await;
    let _daemon = Daemon::start(&world.database).await;
    let rotated = world.database.text(&format!("select webhook_rotate_secret({both})")).await;
    let rotated = rotated.expect("a secret");
    let keys = format!(
        "select public_key from webhook.public_key where subscription_id = {both} and expires_at is null"
    );
    let new_public = world.database.text(&keys).await.expect("a public key");
    let mut wrong = Vec::new();
    // Each program gets an event of its own, so no signature expires while the others run.
    for (at, program) in programs.into_iter().enumerate() {
        let values = "'Zoë 🚀 \"quoted\" \\ back', 12345678901234567890.10, E'tab\\tline\\nend \u{2028}'";
        world.database.run(&format!("insert into orders values ({at}, {values})")).await;
        for path in ["/ok", "/ok/both"] {
            world.receiver.wait_for(path, at + 1, PATIENCE).await;
        }
        let last = |path: &str| world.receiver.at(path).pop().expect("it has come");
        let mut all = cases(&last("/ok"));
        all.extend(rotating(&last("/ok/both"), &rotated));
        if program.has_v1a {
            all.extend(with_keys(&last("/ok"), &last("/ok/both"), &new_public));
        }
        let told = tokio::task::spawn_blocking(move || {
            let mut wrong = Vec::new();
            for case in &all {
                let said = answer(&program, case);
                let wanted = if case.is_genuine { "Status: 204" } else { "Status: 401" };
                if !said.starts_with(wanted) {
                    wrong.push(format!("{}: {}: {said:?}", program.language, case.what));
                }
            }
            println!("{}: {} requests", program.language, all.len());
            wrong
        });
        wrong.extend(told.await.expect("no panic"));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Returns cases from a rotation, with keys of both kinds.
fn rotating(received: &Received, rotated: &str) -> Vec<Case> {
    let signatures = received.header("webhook-signature").expect("signatures");
    assert_eq!(signatures.split(' ').count(), 4, "two of each kind");
    let of = |what: &str, secret: &str, is_genuine| Case {
        is_genuine,
        ..Case::of(&format!("while it is replaced: {what}"), received, secret)
    };
    vec![
        of("the old secret", SECRET, true),
        of("the new secret", rotated, true),
        of("neither secret", OTHER_SECRET, false),
    ]
}

/// Returns cases for receivers that hold a public key.
fn with_keys(plain: &Received, rotating: &Received, new_public: &str) -> Vec<Case> {
    let keyed = Case::of("v1a: the old key", rotating, PUBLIC);
    let mut all = vec![
        Case::of("v1a: the new key", rotating, new_public),
        Case { is_genuine: false, ..Case::of("v1a: another's key", rotating, OTHER_PUBLIC) },
        Case { is_genuine: false, ..Case::of("v1a: where there is v1 alone", plain, PUBLIC) },
        keyed.with_body("v1a: a line end more", &[keyed.body.as_slice(), b"\n"].concat()),
    ];
    for value in ["v1a,", "v1a,????", "v1a,AAAA", "v1a"] {
        all.push(keyed.with(&format!("v1a: {value}"), false, "webhook-signature", Some(value)));
    }
    all.push(keyed);
    all
}

/// Checks that the documentation names every program, and that each is short.
#[test]
fn every_program_is_documented() {
    let page = include_str!("../../../docs/RECEIVING.md");
    let mut count = 0;
    for entry in fs::read_dir(folder()).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        assert!(page.contains(&format!("(receivers/{name})")), "docs/RECEIVING.md names {name}");
        let text = fs::read_to_string(&path).expect("a text");
        assert!(
            text.lines().count() <= 100 && text.lines().all(|line| line.chars().count() <= 130),
            "{name} is short"
        );
        count += 1;
    }
    assert_eq!(count, 6);
}
