//! Promise: whatever happens to daemons, server, connections, receivers and clocks, in whatever order, nothing is lost, nothing is
//! invented, order is kept, and what comes twice is what was in flight (`src/bin/chaos`; `make chaos` runs it for longer).

use e2e::scale;
use std::process::Command;

#[test]
fn as_many_faults_as_half_a_minute_holds() {
    let (faults, seconds) = (scale("PGW_FAULTS", 40, 100), scale("PGW_CHAOS_SECONDS", 30, 300));
    let mut chaos = Command::new(env!("CARGO_BIN_EXE_chaos"));
    chaos.args([faults.to_string(), seconds.to_string()]);
    // Another one each time, which it prints; PGW_SEED for the same again.
    if let Ok(seed) = std::env::var("PGW_SEED") {
        chaos.arg(seed);
    }
    let done = chaos.output().expect("it can be started");
    println!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "a promise was broken");
}
