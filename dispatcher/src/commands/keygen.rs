//! `webhookd keygen`: creates the key that secrets are sealed for, or prints the public half of an
//! existing key. Writes one file, and connects to nothing.

use crate::{
    cli::Keygen,
    commands::{Error, output::print},
};
use seal::{KeyRing, PrivateKey};
use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, process::ExitCode};

/// Writes the private key, readable for its owner only, and prints the public key with the proof
/// that `webhook_seal()` requires. With `--public`, `keys` has the keys of the file.
///
/// # Errors
/// The file exists (the secrets sealed for an overwritten key would be lost), or it cannot be
/// written; with `--public`, the file has no key.
pub fn run(flags: &Keygen, keys: &KeyRing) -> Result<ExitCode, Error> {
    let key = match keys.current() {
        Some(key) => key.clone(),
        None => create(flags)?,
    };
    print(&format!("{}\n", key.proven_key()))
}

/// Creates the file.
fn create(flags: &Keygen) -> Result<PrivateKey, Error> {
    let key = PrivateKey::generate()?;
    let unwritable = |cause| Error::KeyFile { path: flags.file.clone(), cause };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&flags.file).map_err(unwritable)?;
    let id = key.public_key().id();
    // In one write, and durable before anything is sealed for it.
    let text = zeroize::Zeroizing::new(format!(
        "# key {id} of webhookd: keep it secret, and keep it\n{}\n",
        *key.reveal()
    ));
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(unwritable)?;
    Ok(key)
}
