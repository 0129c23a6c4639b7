//! Reads the blocks of `docs/MIGRATING.md` and runs them as a user would who follows a guide.

use super::receiver::Collector;
use e2e::{PATIENCE, cluster::Database};
use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
    time::Duration,
};

pub const PAGE: &str = include_str!("../../../../docs/MIGRATING.md");

// ── The page ────────────────────────────────────────────────────────────────────────────────

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub section: String,
    step: String,
    language: String,
    text: String,
}

pub fn blocks() -> Vec<Block> {
    let (mut section, mut step) = (String::new(), String::new());
    let mut open: Option<Block> = None;
    let mut blocks = Vec::new();
    for line in PAGE.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                let language = language.to_owned();
                open = Some(Block {
                    section: section.clone(),
                    step: step.clone(),
                    language,
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, None) => {
                if let Some(text) = line.strip_prefix("## ") {
                    text.clone_into(&mut section);
                    step.clear();
                } else if let Some(text) = line.strip_prefix("### ") {
                    text.clone_into(&mut step);
                }
            }
        }
    }
    assert_eq!(open, None, "every block ends");
    blocks
}

/// A guide that a test follows: its blocks, in any order, each at least once.
pub struct Guide {
    blocks: Vec<Block>,
    database: Database,
    receiver: String,
    followed: BTreeSet<String>,
}

impl Guide {
    pub fn new(section: &str, database: &Database, receiver: &Collector) -> Self {
        let blocks: Vec<Block> = blocks().into_iter().filter(|block| block.section == section).collect();
        assert!(!blocks.is_empty(), "there is a guide {section}");
        Self { blocks, database: database.clone(), receiver: receiver.url.clone(), followed: BTreeSet::new() }
    }

    /// Runs a step as printed, except for the receiver's address. Returns its output.
    pub fn follow(&mut self, step: &str) -> String {
        self.attempt(step).unwrap_or_else(|error| panic!("{step}: {error}"))
    }

    pub fn attempt(&mut self, step: &str) -> Result<String, String> {
        let block = self.blocks.iter().find(|block| block.step == step);
        let block = block.unwrap_or_else(|| panic!("no block under {step}")).clone();
        let text = block.text.replace("https://crm.example.com/hooks", &self.receiver);
        let mut command = match block.language.as_str() {
            "sql" => {
                let mut psql = self.database.cluster.program("psql");
                psql.args([
                    "-X",
                    "-q",
                    "-A",
                    "-t",
                    "-v",
                    "ON_ERROR_STOP=1",
                    "-d",
                    &self.database.url(),
                    "-c",
                    &text,
                ]);
                psql
            }
            "sh" => {
                let mut shell = Command::new("bash");
                shell.args(["-euo", "pipefail", "-c", &text]);
                shell
                    .env("HASURA_URL", self.receiver.trim_end_matches("/hooks"))
                    .env("HASURA_ADMIN_SECRET", "admin");
                shell
            }
            other => panic!("{step}: what is {other}?"),
        };
        let output = command.stdin(Stdio::null()).output().expect("it can be started");
        if !output.status.success() {
            return Err(format!("{}\n{text}", String::from_utf8_lossy(&output.stderr)));
        }
        self.followed.insert(block.step);
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs a step that takes a lock. If the lock times out, nothing has happened, and the step
    /// runs again.
    pub fn change_over(&mut self, step: &str) {
        for _ in 0..10 {
            match self.attempt(step) {
                Ok(_) => return,
                Err(error) if error.contains("lock timeout") => {}
                Err(error) => panic!("{step}: {error}"),
            }
        }
        panic!("{step}: never got the lock");
    }

    /// Runs a step until its output is sufficient.
    pub async fn until(&mut self, step: &str, is_enough: impl Fn(&str) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut pace = tokio::time::interval(Duration::from_millis(50));
        loop {
            pace.tick().await;
            let said = self.follow(step);
            if is_enough(&said) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{step}: {said}");
        }
    }

    /// Checks that no block was skipped.
    pub fn end(self) {
        let missed: Vec<&Block> =
            self.blocks.iter().filter(|block| !self.followed.contains(&block.step)).collect();
        assert!(missed.is_empty(), "{missed:#?}");
        let steps: BTreeSet<&String> = self.blocks.iter().map(|block| &block.step).collect();
        assert_eq!(steps.len(), self.blocks.len(), "one block a step: no other is run");
    }
}
