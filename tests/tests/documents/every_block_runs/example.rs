//! The receivers that `docs/RECEIVING.md` shows, as programs that `webhookd conform` judges.

use super::{
    block::{Block, blocks},
    world::World,
};
use e2e::PATIENCE;

/// Starts an example for Node that listens by itself.
pub async fn start_node(world: &mut World, block: &Block) -> Option<String> {
    let text = world.localize(&block.text);
    std::fs::write(world.folder.path().join("server.cjs"), text).expect("it can be written");
    let said = world.prepare_shell("__endless listening node server.cjs").await;
    (!said.is_empty()).then_some(said)
}

/// Stores an example for Python, which `serve.py` imports.
pub fn store_python(world: &World, block: &Block) -> Option<String> {
    std::fs::write(world.folder.path().join("example.py"), &block.text).expect("it can be written");
    None
}

/// Formats with bodies of JSON, which the library of the example parses.
const FORMATS: [&str; 6] =
    ["standard", "cloudevents-structured", "cloudevents-binary", "raw", "supabase", "hasura"];

/// Lets the daemon deliver in each of them, alone and in batches, to the example that listens.
/// Returns what it rejects.
pub async fn every_format(world: &mut World) -> Vec<String> {
    let url = world.localize("http://127.0.0.1:3000/hooks");
    let batches = ["standard", "cloudevents-structured"].map(|format| (format, 2));
    for (format, size) in FORMATS.map(|format| (format, 1)).into_iter().chain(batches) {
        let options = format!("format => '{format}', batch_size => {size}, name => '{format} {size}'");
        world
            .prepare(&format!(
                "select webhook_subscribe('{url}', '{{order.*}}', secret => :'secret', {options});"
            ))
            .await;
    }
    world.prepare("update orders set total = 9.99 where id = 17;").await;
    let of_example = format!(
        "from webhook.delivery d join webhook.subscription s on s.id = d.subscription_id
         where s.url = '{url}' and d.type = 'order.updated'"
    );
    let attempted = format!("select count(*) = {} and min(d.attempts) > 0 {of_example}", FORMATS.len() + 2);
    world.database.until(&attempted, PATIENCE).await;
    let rejected = format!(
        "select string_agg(format('%s: %s %s', s.name, d.last_status, d.last_error), '; ') {of_example} and d.state <> 'delivered'"
    );
    let rejected = world.database.text(&rejected).await;
    rejected.map(|rejected| format!("the example for Express rejects {rejected}")).into_iter().collect()
}

/// Runs `webhookd conform` against the examples that are functions, behind a server of a few lines.
/// The page itself runs it against the example that listens.
pub async fn conform(world: &mut World) -> Vec<String> {
    let page = include_str!("../../../../docs/RECEIVING.md");
    let shell = blocks(page).into_iter().find(|block| block.text.contains("verify() {"));
    let shell = shell.expect("the example for shells");
    let folder = world.folder.path();
    std::fs::write(folder.join("example.sh"), shell.text).expect("it can be written");
    std::fs::write(folder.join("serve.py"), include_str!("serve.py")).expect("it can be written");
    let python = e2e::foreign::python();
    let mut wrong = Vec::new();
    for kind in ["python", "shell"] {
        let said = world
            .prepare_shell(&format!(
                "rm -f address; __endless listening {} serve.py {kind}
                 webhookd conform \"$(cat address)\" --secret \"$SECRET\" || true",
                python.display()
            ))
            .await;
        if !said.contains("16 right, 0 wrong") {
            wrong.push(format!("the example for {kind} fails `webhookd conform`:\n{said}"));
        }
    }
    wrong
}
