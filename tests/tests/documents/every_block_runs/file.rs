//! Files and programs of a page, each given to the program that reads it.

use super::{block::Block, example, world::World};
use e2e::daemon::binary;
use std::{path::PathBuf, process::Command};

/// Returns what is wrong with a file of a page.
pub async fn fault(world: &mut World, block: &Block) -> Option<String> {
    match block.language.as_str() {
        "ini" => unit(world, block),
        "nginx" => site(world, block),
        "toml" => settings(world, block),
        "yaml" => scrape(world, block),
        "javascript" => example::start_node(world, block).await,
        "python" => example::store_python(world, block),
        other => Some(format!("nothing reads {other}")),
    }
}

/// Writes a file of this world.
fn write(world: &World, name: &str, text: &str) -> PathBuf {
    let path = world.folder.path().join(name);
    std::fs::write(&path, text).expect("it can be written");
    path
}

/// Runs a program; returns its output if it fails, or if the output contains a warning.
fn judge(command: &mut Command, warning: &str) -> Option<String> {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error}; scripts/setup.sh test installs what is missing")
    });
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (!output.status.success() || said.contains(warning)).then_some(said)
}

/// A unit of systemd. The program that it starts must exist.
fn unit(world: &World, block: &Block) -> Option<String> {
    let text = block.text.replace("/usr/local/bin/webhookd", binary().to_str().expect("a path of text"));
    let path = write(world, "webhookd.service", &text);
    judge(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(path), "webhookd.service:")
}

/// A site of nginx, in an otherwise empty configuration.
fn site(world: &World, block: &Block) -> Option<String> {
    let folder = world.folder.path();
    let (certificate, key) = (folder.join("site.pem"), folder.join("site.key"));
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ed25519",
        "-nodes",
        "-subj",
        "/CN=hooks.example.com",
        "-keyout",
    ]);
    assert_eq!(judge(openssl.arg(&key).arg("-out").arg(&certificate), "\0"), None);
    let text = block
        .text
        .replace("/etc/ssl/hooks.example.com.pem", certificate.to_str().expect("a path of text"))
        .replace("/etc/ssl/hooks.example.com.key", key.to_str().expect("a path of text"));
    let (pid, log) = (folder.join("nginx.pid"), folder.join("nginx.log"));
    let text = format!(
        "pid {};\nerror_log {};\nevents {{}}\nhttp {{\naccess_log off;\n{text}}}\n",
        pid.display(),
        log.display()
    );
    let path = write(world, "nginx.conf", &text);
    judge(Command::new("/usr/sbin/nginx").arg("-t").arg("-e").arg(log).arg("-c").arg(path), "[warn]")
}

/// A configuration file of the daemon. The exit code 2 means that it is not valid.
fn settings(world: &World, block: &Block) -> Option<String> {
    let path = write(world, "webhookd.toml", &world.localize(&block.text));
    let mut command = Command::new(binary());
    command.args(["check", "--config"]).arg(path);
    if !block.text.contains("database_url") {
        command.args(["--database-url", &world.database.url()]);
    }
    let output = command.output().expect("it runs");
    (output.status.code() == Some(2)).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A configuration of Prometheus. The test scrapes its targets as Prometheus would, with the token
/// that the page has stored.
fn scrape(world: &World, block: &Block) -> Option<String> {
    let path = write(world, "prometheus.yml", &world.localize(&block.text));
    let script = include_str!("scrape.py");
    let python = e2e::foreign::python();
    judge(Command::new(python).arg("-c").arg(script).arg(path), "\0")
}
