//! The admin server of a daemon, its callers and a client, for the tests of REST and page.

use crate::{
    PATIENCE,
    cluster::Database,
    daemon::{Daemon, binary},
};
use reqwest::{Client, Method, StatusCode, header::HeaderMap};
use std::{
    collections::HashMap,
    ffi::OsStr,
    process::Command,
    sync::{Mutex, PoisonError},
};

/// Roles of a database with a few tenants: `daemon` is a dispatcher and a member of the others;
/// `ops` is an admin, `clerk` a reader, `alice`, `bob` and `tenants` subscribers; `stranger` is an
/// admin that the daemon is no member of.
const ROLES: &str = "
    create role daemon login; select webhook_grant('daemon', 'dispatcher');
    create role ops; select webhook_grant('ops', 'admin');
    create role clerk; select webhook_grant('clerk', 'reader');
    create role alice; select webhook_grant('alice', 'subscriber');
    create role bob; select webhook_grant('bob', 'subscriber');
    create role tenants; select webhook_grant('tenants', 'subscriber');
    create role stranger; select webhook_grant('stranger', 'admin');
    grant ops, clerk, alice, bob, tenants to daemon";

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    /// Returns the body as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// Returns a header's text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Returns the token of a form.
    ///
    /// # Panics
    /// If there is no form.
    pub fn form_token(&self) -> String {
        self.hidden("form_token")
    }

    /// Returns the value of a hidden field.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn hidden(&self, name: &str) -> String {
        let field = format!("name=\"{name}\" value=\"");
        let (_, rest) = self.text.split_once(&field).unwrap_or_else(|| panic!("no {name}: {}", self.text));
        let value: String = rest.chars().take_while(|character| *character != '"').collect();
        value.replace("&quot;", "\"")
    }
}

/// A daemon with an admin server.
pub struct Admin {
    pub daemon: Daemon,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    client: Client,
    /// The cookies of [`Admin::cookie`], by token.
    cookies: Mutex<HashMap<String, String>>,
}

impl Admin {
    /// Creates the roles.
    pub async fn roles(database: &Database) {
        database.run(ROLES).await;
    }

    /// Starts a daemon with an admin server. It needs a token, or `--admin-open-as` among the
    /// arguments.
    ///
    /// # Panics
    /// If it does not listen and deliver within [`PATIENCE`].
    pub async fn start(database: &Database, arguments: &[&str]) -> Self {
        Self::start_in(database, arguments, &[]).await
    }

    /// Starts it with variables in its environment.
    ///
    /// # Panics
    /// If it does not listen and deliver within [`PATIENCE`].
    pub async fn start_in(database: &Database, arguments: &[&str], environment: &[(&str, &OsStr)]) -> Self {
        Self::start_at(database, &database.url_as("daemon"), arguments, environment).await
    }

    /// Starts it with another URL of the same database.
    ///
    /// # Panics
    /// If it does not listen and deliver within [`PATIENCE`].
    pub async fn start_at(
        database: &Database,
        url: &str,
        arguments: &[&str],
        environment: &[(&str, &OsStr)],
    ) -> Self {
        let arguments = [&["--allow-net", "127.0.0.0/8", "--admin", "127.0.0.1:0"], arguments].concat();
        let daemon = Daemon::spawn_in(url, &arguments, environment);
        let line = daemon.process().wait_for_line(|line| line.contains("admin.listens"), PATIENCE).await;
        let (_, url) = line.split_once("url=").expect("it says where");
        let client =
            crate::http_client().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
        daemon.ready(database).await;
        let url = url.trim_end_matches('/').to_owned();
        Self { daemon, url, client, cookies: Mutex::default() }
    }

    /// Sends a request with a token, further headers and a body.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Answer {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            if !headers.iter().any(|(name, _)| *name == "content-type") {
                request = request.header("content-type", "application/json");
            }
            request = request.body(body.to_owned());
        }
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, text: response.text().await.expect("a whole answer") }
    }

    /// Signs in with a token. Returns the cookie of the session: of an unknown one if the token is
    /// rejected.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn cookie(&self, token: &str) -> String {
        let known = |cookies: &HashMap<String, String>| cookies.get(token).cloned();
        if let Some(cookie) = known(&self.cookies.lock().unwrap_or_else(PoisonError::into_inner)) {
            return cookie;
        }
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let answer = self.ask("POST", "/login", None, &form, Some(&format!("token={token}"))).await;
        let cookie = answer.header("set-cookie").split(';').next().unwrap_or_default().to_owned();
        if cookie.is_empty() {
            return "webhookd_session=unknown".to_owned();
        }
        let mut cookies = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        cookies.insert(token.to_owned(), cookie.clone());
        cookie
    }

    /// Signs in again when the next cookie for this token is needed.
    pub fn forget_cookie(&self, token: &str) {
        self.cookies.lock().unwrap_or_else(PoisonError::into_inner).remove(token);
    }

    /// Returns the status of a GET whose answer may have no end.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn status_of(&self, path: &str, headers: &[(&str, &str)]) -> u16 {
        let request = self.client.get(format!("{}{path}", self.url));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.send().await.expect("an answer").status().as_u16()
    }

    /// Sends a GET with a token.
    pub async fn get(&self, path: &str, token: &str) -> Answer {
        self.ask("GET", path, Some(token), &[], None).await
    }

    /// Sends a POST of JSON with a token.
    pub async fn post(&self, path: &str, token: &str, body: &str) -> Answer {
        self.ask("POST", path, Some(token), &[], Some(body)).await
    }

    /// Repeats a GET until the answer has this status and contains these words.
    ///
    /// # Panics
    /// If that takes longer than twice [`PATIENCE`]: the daemon reports a stall after 20 seconds.
    pub async fn until(&self, path: &str, status: u16, words: &str) -> Answer {
        let deadline = tokio::time::Instant::now() + 2 * PATIENCE;
        let mut pace = tokio::time::interval(std::time::Duration::from_millis(100));
        loop {
            pace.tick().await;
            let answer = self.ask("GET", path, None, &[], None).await;
            if answer.status == status && answer.text.contains(words) {
                return answer;
            }
            assert!(tokio::time::Instant::now() < deadline, "{path}: {answer:?}");
        }
    }
}

/// Creates a token with `webhookd token create …`.
///
/// # Panics
/// If the command fails.
pub fn token(database: &Database, arguments: &[&str]) -> String {
    let output = Command::new(binary())
        .args(["token", "create", "--database-url", &database.url(), "--name", "a test's"])
        .args(arguments)
        .output()
        .expect("webhookd runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}
