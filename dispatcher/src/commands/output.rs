//! Standard output, whose reader may have gone.

use crate::commands::Error;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Writes to standard output.
///
/// # Errors
/// [`Error::ReaderGone`] ends the command.
pub fn print(text: &str) -> Result<ExitCode, Error> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Error::ReaderGone),
        Err(error) => Err(Error::Output(error)),
    }
}

/// The same for output of a command that continues without a reader.
///
/// # Errors
/// Any other failure to write.
pub fn tell(text: &str) -> Result<(), Error> {
    match print(text) {
        Ok(_) | Err(Error::ReaderGone) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Checks that the other end of standard output is open, for commands that wait for something to
/// print.
///
/// # Errors
/// [`Error::ReaderGone`].
pub fn check_reader() -> Result<(), Error> {
    let out = io::stdout();
    let mut pipe = [PollFd::new(&out, PollFlags::empty())];
    let told = poll(&mut pipe, Some(&Timespec::default()));
    if told.is_ok() && pipe[0].revents().contains(PollFlags::ERR) { Err(Error::ReaderGone) } else { Ok(()) }
}
