//! The receivers that `docs/RECEIVING.md` shows, as programs that `webhookd conform` judges.

use super::{
    block::{Block, blocks},
    world::World,
};

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

/// Runs `webhookd conform` against the examples that are functions, behind a server of a few lines.
/// The page itself runs it against the one that listens.
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
