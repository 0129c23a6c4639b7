//! Promise: every statement of the runbook (docs/OPERATIONS.md) runs as printed, against the real
//! views and functions.

use e2e::{PATIENCE, cluster::describe, daemon::Daemon, world::World};

const PAGE: &str = include_str!("../../../docs/OPERATIONS.md");

/// Returns the SQL of the runbook, by heading.
fn blocks() -> Vec<(String, String)> {
    let runbook = PAGE.split("\n## Runbook\n").nth(1).expect("there is a runbook");
    let mut heading = "Runbook".to_owned();
    let mut blocks = Vec::new();
    let mut block: Option<String> = None;
    for line in runbook.lines() {
        match (&mut block, line) {
            (None, "```sql") => block = Some(String::new()),
            (Some(sql), "```") => {
                blocks.push((heading.clone(), std::mem::take(sql)));
                block = None;
            }
            (Some(sql), line) => *sql += &format!("{line}\n"),
            (None, line) => {
                if let Some(text) = line.strip_prefix("### ") {
                    text.clone_into(&mut heading);
                }
            }
        }
    }
    blocks
}

#[tokio::test(flavor = "multi_thread")]
async fn as_printed() {
    let world = World::new().await;
    let failing = world.subscribe_with("/status/500", "ordering => 'key', retry => '{100ms}'").await;
    let _daemon = Daemon::start_with(&world.database, &["--probe-interval-ms", "200"]).await;
    world.insert_orders(1, 2).await;
    let given_up = "select count(*) >= 1 from webhook.delivery where state = 'exhausted'";
    world.database.until(given_up, PATIENCE).await;
    let event = world
        .database
        .text("select event_id from webhook.delivery where state = 'exhausted' limit 1")
        .await
        .expect("one");
    let blocks = blocks();
    assert!(blocks.len() > 12, "{} blocks", blocks.len());
    let mut wrong = Vec::new();
    for (heading, sql) in blocks {
        let sql =
            sql.replace(":subscription", &failing.to_string()).replace(":'event'", &format!("'{event}'"));
        if let Err(error) = world.app.batch_execute(&sql).await {
            wrong.push(format!("{heading}: {}\n{sql}", describe(&error)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
