//! A real browser (Chromium, through ChromeDriver) that looks at the page: what tests of it need. Reads nothing but what
//! the browser shows; whoever uses it says where to go.

use crate::{PATIENCE, foreign, process::Process};
use fantoccini::{
    Client, ClientBuilder, Locator,
    elements::Element,
    wd::{Capabilities, WebDriverCompatibleCommand},
};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use std::{process::Command, time::Duration};
use tempfile::TempDir;
use tokio::{
    sync::OnceCell,
    time::{Instant, interval},
};

/// Pages are started without a network of their own, so that nothing but loopback is asked.
const ARGUMENTS: [&str; 12] = [
    "--headless=new",
    // Root has no sandbox, as in containers; it sees our own pages alone.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    // Its end is ChromeDriver's.
    "--remote-debugging-pipe",
    "--window-size=1280,900",
];

/// A command of ChromeDriver's beside the standard.
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

/// A window on an admin server.
pub struct Browser {
    client: Client,
    /// Where paths begin.
    url: String,
    axe: OnceCell<String>,
    _driver: Process,
    _profile: TempDir,
}

impl Browser {
    /// Starts one that knows nothing yet; `url`: the server whose paths are gone to.
    ///
    /// # Panics
    /// If ChromeDriver or Chromium is not there.
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

    /// Goes to a path of the server and waits until it is there.
    ///
    /// # Panics
    /// If it cannot be reached.
    pub async fn go(&self, path: &str) {
        self.client.goto(&format!("{}{path}", self.url)).await.expect("a page");
    }

    /// Where it is.
    ///
    /// # Panics
    /// If the browser has gone.
    pub async fn path(&self) -> String {
        let url = self.client.current_url().await.expect("an address");
        url.as_str().strip_prefix(&self.url).unwrap_or(url.as_str()).to_owned()
    }

    /// What can be read of the page.
    ///
    /// # Panics
    /// If the browser has gone.
    pub async fn text(&self) -> String {
        self.element("body").await.text().await.expect("a body")
    }

    /// An element, waited for.
    ///
    /// # Panics
    /// If there is none, with what there is.
    pub async fn element(&self, css: &str) -> Element {
        let found = self.client.wait().at_most(PATIENCE).for_element(Locator::Css(css)).await;
        match found {
            Ok(element) => element,
            Err(error) => panic!("{css}: {error}\n{}", self.client.source().await.unwrap_or_default()),
        }
    }

    /// How many there are now.
    ///
    /// # Panics
    /// If the browser has gone.
    pub async fn count(&self, css: &str) -> usize {
        self.client.find_all(Locator::Css(css)).await.expect("a page").len()
    }

    /// Waits until the page can be read to say this, without being loaded anew by us.
    ///
    /// # Panics
    /// If it does not come, with what the page says.
    pub async fn until_it_says(&self, text: &str) {
        let xpath = format!("//body//*[contains(normalize-space(.), \"{text}\")]");
        let found = self.client.wait().at_most(PATIENCE).for_element(Locator::XPath(&xpath)).await;
        if found.is_err() {
            panic!("no {text:?} in\n{}", self.text().await);
        }
    }

    /// Waits until nothing on the page is like this, without being loaded anew by us.
    ///
    /// # Panics
    /// If something is for [`PATIENCE`], with what the page says.
    pub async fn until_gone(&self, css: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut pace = interval(Duration::from_millis(100));
        while self.count(css).await > 0 {
            assert!(Instant::now() < deadline, "{css} is there in\n{}", self.text().await);
            pace.tick().await;
        }
    }

    /// Types into a field that is found by its label, in place of what it has.
    ///
    /// # Panics
    /// If no label says so.
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

    /// Presses the first button or link with this name, and waits until the next page is there.
    ///
    /// # Panics
    /// If there is none.
    pub async fn press(&self, name: &str) {
        let xpath = format!("//*[(self::button or self::a) and normalize-space(.)=\"{name}\"]");
        self.follow(Locator::XPath(&xpath)).await;
    }

    /// Fills in a form by the names of its fields, as a person does, and presses a button of it.
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

    /// Opens what is folded, so that all fields can be seen.
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
    /// and the click; the replacement is looked up then.
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

    /// The page as markup.
    ///
    /// # Panics
    /// If the browser has gone.
    pub async fn source(&self) -> String {
        self.client.source().await.expect("a page")
    }

    /// Types keys as a keyboard does, wherever the focus is.
    ///
    /// # Panics
    /// If the browser has gone.
    pub async fn keys(&self, keys: &str) {
        let focused = self.client.active_element().await.expect("something has the focus");
        focused.send_keys(keys).await.expect("keys");
    }

    /// What has the focus, as it can be read.
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

    /// A command of the DevTools protocol.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn devtools(&self, command: &str, parameters: Value) {
        let body = json!({ "cmd": command, "params": parameters });
        self.client
            .issue_cmd(Extra { path: "goog/cdp/execute", body })
            .await
            .unwrap_or_else(|error| panic!("{command}: {error}"));
    }

    /// A window of this size, light or dark.
    ///
    /// # Panics
    /// If the browser has gone.
    pub async fn look(&self, width: u32, height: u32, scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", media).await;
    }

    /// What the console has said since the last time: violations of the content security policy, scripts' errors, answers that failed.
    ///
    /// # Panics
    /// If the browser has gone.
    pub async fn console(&self) -> Vec<String> {
        let log = self.client.issue_cmd(Extra { path: "se/log", body: json!({ "type": "browser" }) }).await;
        let entries = log.expect("a log");
        let texts = entries.as_array().into_iter().flatten();
        texts.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// What axe-core finds wrong with the page, by the rules of WCAG 2.1 A and AA: rule, what it says, and where.
    ///
    /// # Panics
    /// If it cannot be asked.
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

    /// The window as a picture, in the directory that `PGW_SCREENSHOTS` names, for people to look at.
    ///
    /// # Panics
    /// If it cannot be written.
    pub async fn picture(&self, name: &str) {
        let Some(directory) = std::env::var_os("PGW_SCREENSHOTS") else { return };
        let picture = self.client.screenshot().await.expect("a picture");
        let directory = std::path::PathBuf::from(directory);
        std::fs::create_dir_all(&directory).expect("a directory");
        std::fs::write(directory.join(format!("{name}.png")), picture).expect("a file");
    }

    /// Ends it; dropped, it is killed.
    ///
    /// # Panics
    /// If it has gone already.
    pub async fn close(self) {
        self.client.clone().close().await.expect("it ends");
    }
}
