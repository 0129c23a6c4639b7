//! The page of an owner: its settings, links to it, and an application that embeds it.

use crate::{
    admin::{Admin, Answer},
    cluster::Database,
};
use serde_json::json;
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// A file with the settings of the page.
pub struct Settings {
    directory: TempDir,
}

impl Settings {
    /// Writes the table `[portal]` with these lines, and with `role = 'tenants'`.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn with(lines: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let settings = Self { directory };
        let text = format!("[portal]\nrole = 'tenants'\nname = 'Shop & Co'\n{lines}\n");
        std::fs::write(settings.path(), text).expect("a file");
        settings
    }

    /// Returns the path of the file.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("webhookd.toml")
    }

    /// Starts a daemon with an admin server and these settings.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start(&self, database: &Database) -> Admin {
        let path = self.path();
        Admin::start(database, &["--config", path.to_str().expect("text")]).await
    }
}

/// Requests a link to the page of an owner.
pub async fn request(admin: &Admin, token: &str, owner: &str, minutes: i32) -> Answer {
    let body = json!({ "owner": owner, "minutes": minutes }).to_string();
    admin.post("/v1/portal-links", token, &body).await
}

/// Returns the path of a new link.
///
/// # Panics
/// If the request is rejected.
pub async fn link(admin: &Admin, token: &str, owner: &str) -> String {
    let made = request(admin, token, owner, 30).await;
    assert_eq!(made.status, 201, "{made:?}");
    let url = made.json()["url"].as_str().expect("a URL").to_owned();
    let (_, path) = url.split_once("/portal/").expect("a path");
    format!("/portal/{path}")
}

/// Opens a link as a form does. Returns the path of the session, without a slash at its end.
///
/// # Panics
/// If the link does not open.
pub async fn open(admin: &Admin, link: &str) -> String {
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let opened = admin.ask("POST", link, None, &form, Some("")).await;
    assert_eq!(opened.status, 303, "{opened:?}");
    opened.header("location").trim_end_matches('/').to_owned()
}

/// A web application on another site than the admin server, with one page.
pub struct Application {
    /// `http://localhost:PORT`.
    pub url: String,
    page: Arc<Mutex<String>>,
}

impl Application {
    /// Starts it.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let page = Arc::<Mutex<String>>::default();
        let shown = Arc::clone(&page);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let body = shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    if stream.read(&mut request).await.is_ok() {
                        let head =
                            "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\nconnection: close";
                        let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                        drop(stream.write_all(answer.as_bytes()).await);
                    }
                });
            }
        });
        Self { url: format!("http://localhost:{port}"), page }
    }

    /// Embeds this URL in its page.
    pub fn embed(&self, url: &str) {
        let page = format!(
            "<!doctype html><html lang=en><title>Shop</title><h1>Your account</h1>\
             <iframe title=Webhooks width=100% height=800 src=\"{url}\"></iframe></html>"
        );
        *self.page.lock().unwrap_or_else(PoisonError::into_inner) = page;
    }
}
