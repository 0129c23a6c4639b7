//! Promise: under faults of daemons, server, connections, receivers and clocks, in any order,
//! nothing is lost or invented, and order is kept. Only events that were in flight arrive twice
//! (`src/bin/chaos`; `make chaos` runs it for longer).

use e2e::scale;
use std::process::Command;

#[test]
fn as_many_faults_as_half_a_minute_holds() {
    let (faults, seconds) = (scale("PGW_FAULTS", 40, 100), scale("PGW_CHAOS_SECONDS", 30, 300));
    let mut chaos = Command::new(env!("CARGO_BIN_EXE_chaos"));
    chaos.args([faults.to_string(), seconds.to_string()]);
    // Each run prints a new seed; PGW_SEED repeats a run.
    if let Ok(seed) = std::env::var("PGW_SEED") {
        chaos.arg(seed);
    }
    let done = chaos.output().expect("it can be started");
    println!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "a promise was broken");
}
