//! The table of figures and the JSON file.

use serde_json::{Value, json};
use std::{path::Path, process::ExitCode};

/// The goal of a figure.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// For scale only.
    None,
}

impl Goal {
    fn met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtLeast(goal) => Some(value >= goal),
            Self::AtMost(goal) => Some(value <= goal),
            Self::None => None,
        }
    }

    fn words(self) -> String {
        match self {
            Self::AtLeast(goal) => format!("≥ {goal}"),
            Self::AtMost(goal) => format!("≤ {goal}"),
            Self::None => String::new(),
        }
    }
}

#[derive(Debug)]
struct Figure {
    name: String,
    value: f64,
    unit: String,
    goal: Goal,
    note: String,
}

/// The figures so far. Each is printed when it is added.
#[derive(Debug)]
pub struct Report {
    machine: Value,
    figures: Vec<Figure>,
}

fn first_line(program: &Path, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program).args(arguments).output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

impl Report {
    pub fn new(daemon: &Path) -> Self {
        let bin = std::env::var("PGW_BIN").unwrap_or_default();
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let machine = json!({
            "cpu": model.map(|(_, name)| name),
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "postgres": first_line(&Path::new(&bin).join("postgres"), &["--version"]),
            "webhookd": daemon.display().to_string(),
            "version": first_line(daemon, &["--version"]),
            "commit": first_line(Path::new("git"), &["rev-parse", "--short", "HEAD"]),
        });
        eprintln!("bench: {machine}");
        Self { machine, figures: Vec::new() }
    }

    pub fn add(&mut self, name: &str, value: f64, unit: &str, goal: Goal, note: impl Into<String>) {
        let note = note.into();
        eprintln!("bench: {name} = {value:.3} {unit} {} {note}", goal.words());
        self.figures.push(Figure { name: name.to_owned(), value, unit: unit.to_owned(), goal, note });
    }

    /// Prints the table and writes the file; returns a failure if a goal was missed.
    pub fn finish(self) -> ExitCode {
        println!("| what | value | unit | goal | met | note |\n| --- | ---: | --- | --- | --- | --- |");
        let mut rows = Vec::new();
        let mut all_met = true;
        for Figure { name, value, unit, goal, note } in self.figures {
            let met = goal.met(value);
            all_met &= met != Some(false);
            let word = met.map_or("", |met| if met { "yes" } else { "**no**" });
            println!("| {name} | {} | {unit} | {} | {word} | {note} |", rounded(value), goal.words());
            rows.push(json!({ "name": name, "value": value, "unit": unit, "goal": goal.words(), "met": met, "note": note }));
        }
        let text = serde_json::to_string_pretty(&json!({ "machine": self.machine, "figures": rows }));
        let written = std::fs::create_dir_all("bench-out")
            .and_then(|()| std::fs::write("bench-out/bench.json", text.unwrap_or_default()));
        if let Err(e) = written {
            eprintln!("bench: bench-out/bench.json: {e}");
            return ExitCode::FAILURE;
        }
        if all_met { ExitCode::SUCCESS } else { ExitCode::from(2) }
    }
}

fn rounded(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}
