//! Compares a request that a page shows with those that arrived.

use super::output::lines;
use e2e::receiver::Received;
use regex::Regex;
use std::sync::LazyLock;

/// Parts of a request that differ each time.
static MASKS: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    let masks = [
        (r"(webhook-timestamp|content-length): \d+", "$1: N"),
        (r"(host): \S+", "$1: H"),
        (r"v1,\S+", "v1,S"),
        (r#"(sequence["=:]+ ?"?)\d+"#, "${1}N"),
        (r"\d{4}-\d\d-\d\dT\d\d%3A\d\d%3A\d\d\.\d+Z", "TIME"),
        (r"\b[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}\b", "UUID"),
    ];
    masks.map(|(mask, with)| (Regex::new(mask).expect("a pattern"), with)).to_vec()
});

fn masked(text: &str) -> String {
    let text = MASKS.iter().fold(text.to_owned(), |text, (mask, with)| mask.replace_all(&text, *with).into());
    lines(&text, false).join("\n")
}

/// Returns the head of a message (its lines), and its body as one line: pages wrap it.
fn parts(text: &str) -> (Vec<&str>, String) {
    let (head, body) = text.trim_end().split_once("\n\n").unwrap_or((text.trim_end(), ""));
    (head.lines().collect(), body.lines().map(str::trim_start).collect())
}

/// Returns what is wrong with the form of a message.
pub fn malformed(text: &str) -> Option<String> {
    let (head, _) = parts(text);
    let is_field = |line: &&str| line.split_once(": ").is_some_and(|(name, _)| !name.contains(' '));
    head.iter().skip(1).find(|line| !is_field(line)).map(|line| format!("not a header: {line}"))
}

/// Returns why no request is like the one on the page, or `None`. Those with the same method and
/// body count as the nearest ones.
pub fn fault<'a>(page: &str, requests: impl Iterator<Item = &'a Received>) -> Option<String> {
    if let Some(fault) = malformed(page) {
        return Some(fault);
    }
    let (mut head, body) = parts(page);
    let method = match head.first()?.split_once(" /") {
        Some((method, _)) => {
            head.remove(0);
            method
        }
        None => "POST",
    };
    let mut nearest = format!("no {method} arrived");
    for request in requests.filter(|request| request.method == method) {
        let sent = String::from_utf8_lossy(&request.body);
        if masked(&body) != masked(&sent) {
            if !nearest.starts_with("no header") {
                nearest = format!("the page shows\n  {}\nand, for example, this was sent\n  {sent}", body);
            }
            continue;
        }
        let has = |line: &&str| {
            let (name, _) = line.split_once(": ").unwrap_or((line, ""));
            let value = request.header(name).unwrap_or_default();
            masked(line) == masked(&format!("{name}: {value}"))
        };
        match head.iter().find(|line| !has(line)) {
            None => return None,
            Some(line) => nearest = format!("no header {line} in {:?}", request.headers),
        }
    }
    Some(nearest)
}
