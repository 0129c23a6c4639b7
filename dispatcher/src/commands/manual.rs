//! `webhookd completions` and `webhookd man`: what the command line says of itself. Writes to standard output only.

use super::{Error, steer::print};
use crate::cli::Cli;
use clap::CommandFactory as _;
use clap_complete::Shell;
use std::process::ExitCode;

/// # Errors
/// Standard output that cannot be written.
pub fn completions(shell: Shell) -> Result<ExitCode, Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "webhookd", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// The command's own page, then one for each of its commands.
///
/// # Errors
/// Standard output that cannot be written.
pub fn page() -> Result<ExitCode, Error> {
    let mut roff = Vec::new();
    let mut command = Cli::command();
    command.build();
    let pages = std::iter::once(command.clone())
        .chain(command.get_subcommands().filter(|c| !c.is_hide_set()).cloned());
    for page in pages {
        clap_mangen::Man::new(page).render(&mut roff).map_err(Error::Output)?;
    }
    print(&String::from_utf8_lossy(&roff))
}
