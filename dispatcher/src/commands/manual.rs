//! `webhookd completions` and `webhookd man`: completions and manual pages of the command line.
//! Writes to standard output only.

use crate::{
    cli::Cli,
    commands::{Error, output::print},
};
use clap::CommandFactory as _;
use clap_complete::Shell;
use std::process::ExitCode;

/// # Errors
/// Those of standard output.
pub fn completions(shell: Shell) -> Result<ExitCode, Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "webhookd", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Writes the command's own page, then a page for each of its subcommands.
///
/// # Errors
/// Those of standard output.
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
