//! Promise: every block of every document is true. Statements and commands run in printed order, in
//! one world for each page, and print what the page shows. Files are valid for the program that
//! reads them, and requests are those that the daemon sends. A block that cannot run says why.
//!
//! `MIGRATING.md` has a test of its own, because its guides need the systems that they leave
//! (`operation::the_migrations_work`).

mod block;
mod example;
mod file;
mod interpreter;
mod output;
mod page;
mod request;
mod tenants;
mod world;

use block::{Step, steps};
use std::{collections::BTreeMap, fs, path::Path};
use world::World;

/// The page whose blocks `operation::the_migrations_work` follows.
const GUIDES: &str = "docs/MIGRATING.md";

/// Returns every page of the repository that a person reads, as a path from its root.
fn pages() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut pages = Vec::new();
    for folder in ["", "docs", "docs/monitoring", "docs/receivers", "tests"] {
        for entry in fs::read_dir(root.join(folder)).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let page = path.strip_prefix(&root).expect("a path below the root");
                pages.push(page.to_str().expect("a path of text").to_owned());
            }
        }
    }
    pages.sort();
    pages
}

fn read(page: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page)).expect("a text")
}

/// Follows a page from its first block to its last, and reports all that is wrong.
async fn follow(page: &str) {
    let steps = steps(&read(page)).unwrap_or_else(|wrong| panic!("{page}: {wrong:#?}"));
    let mut world = World::new().await;
    page::prepare(&mut world, page).await;
    let mut wrong = Vec::new();
    for step in &steps {
        let (block, fault) = match step {
            Step::Leave(..) => continue,
            Step::Run { block, printed } => {
                if block.has_note("another database") {
                    world.begin_again().await;
                }
                page::before(&mut world, page, block).await;
                (block, world.run(block, printed.as_ref()).await)
            }
            Step::Use(block) if block.language == "http" => (block, world.request(block).await),
            Step::Use(block) => (block, file::fault(&mut world, block).await),
        };
        if let Some(fault) = fault {
            wrong.push(format!("{page}:{} ({}): {fault}\n{}", block.line, block.heading, block.text));
        }
    }
    wrong.extend(page::after(&mut world, page).await);
    assert!(wrong.is_empty(), "{} blocks are wrong\n\n{}", wrong.len(), wrong.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn readme() {
    follow("README.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_reference() {
    follow("docs/SQL.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operations() {
    follow("docs/OPERATIONS.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receiving() {
    follow("docs/RECEIVING.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events() {
    follow("docs/EVENTS.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics() {
    follow("docs/monitoring/METRICS.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants() {
    follow("docs/TENANTS.md").await;
}

/// The pages above, and those whose blocks are all left out.
#[test]
fn no_page_is_forgotten() {
    let followed = [
        "README.md",
        "docs/EVENTS.md",
        "docs/OPERATIONS.md",
        "docs/RECEIVING.md",
        "docs/SQL.md",
        "docs/TENANTS.md",
        "docs/monitoring/METRICS.md",
    ];
    let (mut counts, mut left): (BTreeMap<&str, usize>, BTreeMap<&str, usize>) = Default::default();
    for page in pages().iter().filter(|page| *page != GUIDES) {
        let steps = steps(&read(page)).unwrap_or_else(|wrong| panic!("{page}: {wrong:#?}"));
        for step in &steps {
            let what = match step {
                Step::Run { printed: Some(_), .. } => "run, output compared",
                Step::Run { .. } => "run",
                Step::Use(block) if block.language == "http" => "compared with a request",
                Step::Use(_) => "used as a file or program",
                Step::Leave(_, reason) => {
                    *left.entry(*reason).or_default() += 1;
                    continue;
                }
            };
            *counts.entry(what).or_default() += 1;
            assert!(followed.contains(&page.as_str()), "{page} has blocks that run: add a test above");
        }
    }
    for (what, count) in &counts {
        println!("{count:4} {what}");
    }
    for (reason, count) in &left {
        println!("{count:4} not run: {reason}");
    }
    assert!(left.values().sum::<usize>() < 40, "few blocks cannot run: {left:?}");
}
