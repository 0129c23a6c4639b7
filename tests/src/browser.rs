//! A real browser (Chromium, through ChromeDriver) for the tests of the page. It reads only what
//! the browser shows; the tests decide which pages it opens.

use crate::{PATIENCE, foreign, process::Process};
use fantoccini::{
    Client, ClientBuilder, Locator,
    elements::Element,
    wd::{Capabilities, WebDriverCompatibleCommand},
};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use std::{path::Path, process::Command, time::Duration};
use tempfile::TempDir;
use tokio::{
    sync::OnceCell,
    time::{Instant, interval},
};

/// Flags that turn off Chromium's own network traffic, so that it connects only to loopback.
const ARGUMENTS: [&str; 12] = [
    "--headless=new",
    // Root has no sandbox, as in containers. The browser opens only our own pages.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    // Chromium ends with ChromeDriver.
    "--remote-debugging-pipe",
    "--window-size=1280,900",
];

/// A command of ChromeDriver in addition to the standard.
#[derive(Debug)]
struct Extra {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Extra {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &url::Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}

/// A browser window on an admin server.
pub struct Browser {
    client: Client,
    /// The base of all paths.
    url: String,
    axe: OnceCell<String>,
    _driver: Process,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser with a fresh profile for the server at `url`.
    ///
    /// # Panics
    /// If ChromeDriver or Chromium is not installed.
    pub async fn start(url: &str) -> Self {
        let mut command = Command::new("chromedriver");
        command.args(["--port=0", "--log-level=WARNING"]);
        let driver = Process::spawn("chromedriver", command, libc::SIGKILL);
        let line = driver.wait_for_line(|line| line.contains("successfully on port"), PATIENCE).await;
        let port = line.trim_end_matches('.').rsplit(' ').next().expect("a port").to_owned();
        let profile = tempfile::Builder::new().prefix("pg_webhook.browser.").tempdir().expect("a directory");
        let mut arguments: Vec<String> = ARGUMENTS.iter().map(|&argument| argument.to_owned()).collect();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let Value::Object(capabilities) = json!({
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        }) else {
            unreachable!("it is an object")
        };
        let capabilities: Capabilities = capabilities;
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("Chromium starts");
        Self { client, url: url.to_owned(), axe: OnceCell::new(), _driver: driver, _profile: profile }
    }

    /// Opens a path of the server and waits until it is loaded.
    ///
    /// # Panics
    /// If it cannot be reached.
    pub async fn go(&self, path: &str) {
        self.client.goto(&format!("{}{path}", self.url)).await.expect("a page");
    }

    /// Returns the path of the current page.
    ///
    /// # Panics
    /// If the browser has gone.
    pub async fn path(&self) -> String {
        let url = self.client.current_url().await.expect("an address");
        url.as_str().strip_prefix(&self.url).unwrap_or(url.as_str()).to_owned()
    }

    /// Returns the visible text of the page.
    ///
    /// # Panics
    /// If the browser has gone.
    pub async fn text(&self) -> String {
        self.element("body").await.text().await.expect("a body")
    }

    /// Waits for an element and returns it.
    ///
    /// # Panics
    /// If there is none, with the content of the page.
    pub async fn element(&self, css: &str) -> Element {
        let found = self.client.wait().at_most(PATIENCE).for_element(Locator::Css(css)).await;
        match found {
            Ok(element) => element,
            Err(error) => panic!("{css}: {error}\n{}", self.client.source().await.unwrap_or_default()),
        }
    }

    /// Returns the current number of matching elements.
    ///
    /// # Panics
    /// If the browser has gone.
    pub async fn count(&self, css: &str) -> usize {
        self.client.find_all(Locator::Css(css)).await.expect("a page").len()
    }

    /// Waits until the page shows this text, without a reload by us.
    ///
    /// # Panics
    /// If the text does not appear, with the page's text.
    pub async fn until_it_says(&self, text: &str) {
        let xpath = format!("//body//*[contains(normalize-space(.), \"{text}\")]");
        let found = self.client.wait().at_most(PATIENCE).for_element(Locator::XPath(&xpath)).await;
        if found.is_err() {
            panic!("no {text:?} in\n{}", self.text().await);
        }
    }

    /// Waits until no element matches, without a reload by us.
    ///
    /// # Panics
    /// If one still matches after [`PATIENCE`], with the page's text.
    pub async fn until_gone(&self, css: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut pace = interval(Duration::from_millis(100));
        while self.count(css).await > 0 {
            assert!(Instant::now() < deadline, "{css} is there in\n{}", self.text().await);
            pace.tick().await;
        }
    }

    /// Replaces the content of the field with this label.
    ///
    /// # Panics
    /// If no label has this text.
    pub async fn fill(&self, label: &str, value: &str) {
        let xpath = format!("//label[contains(normalize-space(.), \"{label}\")]");
        let found = self.client.find(Locator::XPath(&xpath)).await;
        let label = found.unwrap_or_else(|error| panic!("{label}: {error}"));
        self.unfold().await;
        let field = match label.attr("for").await.expect("a label") {
            Some(id) => self.element(&format!("#{id}")).await,
            None => label.find(Locator::Css("input, textarea, select")).await.expect("a field"),
        };
        field.clear().await.expect("it is a field");
        field.send_keys(value).await.expect("it can be typed into");
    }

    /// Presses the first button or link with this name, and waits for the next page.
    ///
    /// # Panics
    /// If there is none.
    pub async fn press(&self, name: &str) {
        let xpath = format!("//*[(self::button or self::a) and normalize-space(.)=\"{name}\"]");
        self.follow(Locator::XPath(&xpath)).await;
    }

    /// Fills in a form by the names of its fields, as a person does, and presses one of its
    /// buttons.
    ///
    /// # Panics
    /// If there is no such field or button.
    pub async fn submit(&self, form: &str, fields: &[(&str, &str)], button: &str) {
        self.unfold().await;
        for (name, value) in fields {
            let field = self.element(&format!("{form} [name='{name}']")).await;
            if field.tag_name().await.expect("a field") == "select" {
                field.select_by_value(value).await.unwrap_or_else(|error| panic!("{name}: {error}"));
                continue;
            }
            field.clear().await.expect("it is a field");
            field.send_keys(value).await.expect("it can be typed into");
        }
        self.follow(Locator::Css(&format!("{form} {button}"))).await;
    }

    /// Opens all `<details>`, so that all fields are visible.
    async fn unfold(&self) {
        self.run("document.querySelectorAll('details').forEach(details => details.open = true)").await;
    }

    /// Clicks a link that a CSS selector names, without waiting for the next page.
    ///
    /// # Panics
    /// If there is no such link.
    pub async fn click(&self, css: &str) {
        self.click_on(Locator::Css(css)).await;
    }

    /// Clicks an element. A page that refreshes itself may replace the element between the look-up
    /// and the click; then the replacement is looked up.
    async fn click_on(&self, locator: Locator<'_>) {
        let click = async {
            loop {
                let found = self.client.wait().at_most(PATIENCE).for_element(locator).await;
                let element = found.unwrap_or_else(|error| panic!("{locator:?}: {error}"));
                match element.click().await {
                    Ok(()) => break,
                    Err(error) if error.is_stale_element_reference() => {}
                    Err(error) => panic!("{locator:?}: {error}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, click).await.expect("the element stays for a click");
    }

    /// Clicks a button or link, confirms if the page asks, and waits for the next page.
    async fn follow(&self, button: Locator<'_>) {
        self.unfold().await;
        let before = self.element("html").await;
        self.click_on(button).await;
        if self.client.get_alert_text().await.is_ok() {
            self.client.accept_alert().await.expect("a question");
        }
        // The old page's elements are stale when the next one is there.
        let left = async { while before.tag_name().await.is_ok() {} };
        tokio::time::timeout(PATIENCE, left).await.expect("it leads to a page");
        self.element("main").await;
    }

    /// Returns the page's markup.
    ///
    /// # Panics
    /// If the browser has gone.
    pub async fn source(&self) -> String {
        self.client.source().await.expect("a page")
    }

    /// Types keys as a keyboard does, into the focused element.
    ///
    /// # Panics
    /// If the browser has gone.
    pub async fn keys(&self, keys: &str) {
        let focused = self.client.active_element().await.expect("something has the focus");
        focused.send_keys(keys).await.expect("keys");
    }

    /// Ticks or clears the check box whose label has this text.
    ///
    /// # Panics
    /// If there is none.
    pub async fn tick(&self, label: &str) {
        let xpath = format!("//label[normalize-space(.)=\"{label}\"]");
        self.click_on(Locator::XPath(&xpath)).await;
    }

    /// Continues within the first frame of the page.
    ///
    /// # Panics
    /// If there is none.
    pub async fn enter_frame(&self) {
        self.element("iframe").await.enter_frame().await.expect("a frame");
    }

    /// Returns the visible text of the focused element.
    ///
    /// # Panics
    /// If the browser has gone.
    pub async fn focused(&self) -> String {
        self.client.active_element().await.expect("a focus").text().await.expect("a text")
    }

    /// Runs a function body in the page.
    ///
    /// # Panics
    /// If it throws.
    pub async fn run(&self, script: &str) -> Value {
        self.client.execute(script, vec![]).await.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Runs a command of the DevTools protocol.
    ///
    /// # Panics
    /// If it is rejected.
    pub async fn devtools(&self, command: &str, parameters: Value) {
        let body = json!({ "cmd": command, "params": parameters });
        self.client
            .issue_cmd(Extra { path: "goog/cdp/execute", body })
            .await
            .unwrap_or_else(|error| panic!("{command}: {error}"));
    }

    /// Sets the size of the window, and light or dark mode.
    ///
    /// # Panics
    /// If the browser has gone.
    pub async fn look(&self, width: u32, height: u32, scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", media).await;
    }

    /// Returns the console's messages since the last call: violations of the content security
    /// policy, errors of scripts, failed answers.
    ///
    /// # Panics
    /// If the browser has gone.
    pub async fn console(&self) -> Vec<String> {
        let log = self.client.issue_cmd(Extra { path: "se/log", body: json!({ "type": "browser" }) }).await;
        let entries = log.expect("a log");
        let texts = entries.as_array().into_iter().flatten();
        texts.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Returns the violations of WCAG 2.1 A and AA that axe-core finds on the page: rule, message,
    /// and place.
    ///
    /// # Panics
    /// If axe-core cannot run.
    pub async fn barriers(&self) -> Vec<String> {
        let load = async || {
            let file = foreign::node_modules().join("axe-core/axe.min.js");
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
        };
        let axe = self.axe.get_or_init(load).await;
        self.run(axe).await;
        let script = "const done = arguments[arguments.length - 1];
            axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'] }).then(found =>
                done(found.violations.map(one => `${one.id}: ${one.help}: ` + one.nodes.map(node => node.html).join(' | '))));";
        let found = self.client.execute_async(script, vec![]).await.expect("axe runs");
        found
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| one.as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Saves a screenshot in the directory that `PGW_SCREENSHOTS` names, for people to view.
    ///
    /// # Panics
    /// If it cannot be written.
    pub async fn picture(&self, name: &str) {
        let Some(directory) = std::env::var_os("PGW_SCREENSHOTS") else { return };
        let directory = Path::new(&directory);
        std::fs::create_dir_all(directory).expect("a directory");
        self.picture_in(directory, name).await;
    }

    /// Saves a screenshot in a directory.
    ///
    /// # Panics
    /// If it cannot be written.
    pub async fn picture_in(&self, directory: &Path, name: &str) {
        let picture = self.client.screenshot().await.expect("a picture");
        std::fs::write(directory.join(format!("{name}.png")), picture).expect("a file");
    }

    /// Closes the browser. A dropped one is killed.
    ///
    /// # Panics
    /// If it has gone already.
    pub async fn close(self) {
        self.client.clone().close().await.expect("it ends");
    }
}
