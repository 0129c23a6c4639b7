//! Resolves signing secrets from their location: sealed in the database, in the environment, in
//! files, or in clear text.
//!
//! A text in `webhook.secret` is one of
//!
//! * `whsec_…`, `whsk_…`: the secret itself;
//! * `sealed:v1:…`: the secret, sealed for one of the daemon's keys and for this subscription;
//! * `env:WEBHOOKD_SECRET_…`: a variable of the daemon's environment; no other prefix is allowed;
//! * `file:NAME`: a file within `--secrets-dir`; no other file is read.
//!
//! Subscribers write these texts, so [`Reference`] limits the names. No error contains any part of
//! a secret.

use seal::{CannotOpen, KeyRing, Purpose};
use signature::{InvalidKey, InvalidReference, Key, Reference};
use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};
use thiserror::Error;
use tokio::sync::watch;
use zeroize::Zeroizing;

/// Maximum size of a file, in bytes. The longest secret has about 100.
const FILE_BYTES_MAX: u64 = 4096;

/// The reason why a secret cannot be resolved. No message contains any part of it.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Unresolvable {
    #[error("invalid secret: {0}")]
    Key(#[from] InvalidKey),
    #[error("cannot open the sealed secret: {0}")]
    Sealed(#[from] CannotOpen),
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    #[error("the variable {0} is not set")]
    VariableUnset(String),
    #[error("cannot read a secret from a file: --secrets-dir is not set")]
    NoDirectory,
    #[error("the file is a link to a place outside --secrets-dir")]
    Outside,
    #[error("cannot read the file: {0}")]
    Unreadable(io::ErrorKind),
    #[error("the file is larger than 4 KiB, or is not text")]
    NoText,
}

/// Resolves secrets with the daemon's keys, environment and directory.
pub struct SecretStore {
    keys: RwLock<KeyRing>,
    dir: Option<PathBuf>,
    variable: fn(&str) -> Option<String>,
    /// Counts the calls of [`SecretStore::reload`].
    generation: watch::Sender<u64>,
}

impl fmt::Debug for SecretStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretStore").field("keys", &self.keys).field("dir", &self.dir).finish()
    }
}

/// Without keys and directory: resolves secrets in clear text and in the environment.
impl Default for SecretStore {
    fn default() -> Self {
        Self::new(KeyRing::default(), None)
    }
}

impl SecretStore {
    pub fn new(keys: KeyRing, dir: Option<PathBuf>) -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        Self { keys: RwLock::new(keys), dir, variable, generation: watch::Sender::new(0) }
    }

    /// Takes these keys, and makes the reader resolve all secrets again. Files may have changed,
    /// too.
    pub fn reload(&self, keys: KeyRing) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// Returns the present keys.
    pub fn keys(&self) -> KeyRing {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns a receiver that notices each reload from now on.
    pub fn reloads(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Returns the secret of a subscription that a text stands for.
    ///
    /// # Errors
    /// Returns [`Unresolvable`] with the reason.
    pub fn resolve(&self, subscription_id: i64, text: &str) -> Result<Key, Unresolvable> {
        if seal::is_sealed(text) {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            let opened = keys.open(Purpose::SecretOf(subscription_id), text)?;
            return Ok(Key::parse(&opened)?);
        }
        match Reference::parse(text).transpose()? {
            Some(Reference::Variable(name)) => Ok(Key::parse(self.read_variable(name)?.trim())?),
            Some(Reference::File(path)) => Ok(Key::parse(self.read_file(path)?.trim())?),
            None => Ok(Key::parse(text)?),
        }
    }

    fn read_variable(&self, name: &str) -> Result<Zeroizing<String>, Unresolvable> {
        let value = (self.variable)(name).ok_or_else(|| Unresolvable::VariableUnset(name.to_owned()))?;
        Ok(Zeroizing::new(value))
    }

    /// Reads a file within the directory. Symbolic links are followed, because secrets that are
    /// mounted into a container are links, but not out of the directory.
    fn read_file(&self, name: &Path) -> Result<Zeroizing<String>, Unresolvable> {
        let dir = self.dir.as_ref().ok_or(Unresolvable::NoDirectory)?;
        let unreadable = |error: io::Error| Unresolvable::Unreadable(error.kind());
        let dir = dir.canonicalize().map_err(unreadable)?;
        let path = dir.join(name).canonicalize().map_err(unreadable)?;
        if !path.starts_with(&dir) {
            return Err(Unresolvable::Outside);
        }
        // Checks the kind of file first: opening a pipe would wait for its writer.
        let metadata = path.metadata().map_err(unreadable)?;
        if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
            return Err(Unresolvable::NoText);
        }
        let mut text = Zeroizing::new(String::new());
        let file = File::open(&path).map_err(unreadable)?;
        match file.take(FILE_BYTES_MAX).read_to_string(&mut text) {
            Ok(_) => Ok(text),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(Unresolvable::NoText),
            Err(error) => Err(unreadable(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use seal::PrivateKey;
    use std::{fs, os::unix::fs::symlink};

    const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn secret() -> Key {
        Key::parse(SECRET).unwrap()
    }

    #[test]
    fn a_sealed_secret_opens_for_its_subscription() {
        let key = PrivateKey::generate().unwrap();
        let store = SecretStore::new(KeyRing::parse(&key.reveal()).unwrap(), None);
        let sealed = seal::seal(key.public_key(), Purpose::SecretOf(7), SECRET).unwrap();
        assert_eq!(store.resolve(7, &sealed), Ok(secret()));
        assert_eq!(store.resolve(8, &sealed), Err(Unresolvable::Sealed(CannotOpen::Damaged)));
        let keyless = SecretStore::default().resolve(7, &sealed).unwrap_err();
        assert_eq!(keyless, Unresolvable::Sealed(CannotOpen::OtherKey(key.public_key().id())));
        let nonsense = seal::seal(key.public_key(), Purpose::SecretOf(7), "hunter2").unwrap();
        let error = store.resolve(7, &nonsense).unwrap_err();
        assert!(matches!(error, Unresolvable::Key(_)) && !error.to_string().contains("hunter2"));
        assert_eq!(store.resolve(7, SECRET), Ok(secret()), "in clear");
    }

    #[test]
    fn only_variables_meant_for_it_are_read() {
        let variable = |name: &str| match name {
            "WEBHOOKD_SECRET_A" => Some(format!("{SECRET}\n")),
            "WEBHOOKD_SECRET_BAD" => Some("hunter2".to_owned()),
            "WEBHOOKD_SECRET_UNSET" => None,
            other => panic!("{other} was read"),
        };
        let store = SecretStore { variable, ..SecretStore::default() };
        assert_eq!(store.resolve(1, "env:WEBHOOKD_SECRET_A"), Ok(secret()));
        let error = store.resolve(1, "env:WEBHOOKD_SECRET_BAD").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        let unset = Unresolvable::VariableUnset("WEBHOOKD_SECRET_UNSET".into());
        assert_eq!(store.resolve(1, "env:WEBHOOKD_SECRET_UNSET"), Err(unset));
        for name in [
            "PGPASSWORD",
            "WEBHOOKD_KEY",
            "WEBHOOKD_SECRET_",
            "WEBHOOKD_SECRET_a",
            "WEBHOOKD_SECRET_A=",
            "WEBHOOKD_SECRETS_DIR",
            " WEBHOOKD_SECRET_A",
            "",
        ] {
            assert_eq!(
                store.resolve(1, &format!("env:{name}")),
                Err(InvalidReference::Variable.into()),
                "{name}"
            );
        }
    }

    #[test]
    fn only_files_of_the_directory_are_read() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("secrets");
        fs::create_dir_all(dir.join("sub/..data")).unwrap();
        fs::write(root.path().join("outside"), SECRET).unwrap();
        fs::create_dir(root.path().join("secrets-too")).unwrap();
        fs::write(root.path().join("secrets-too/a"), SECRET).unwrap();
        fs::write(dir.join("a"), format!("{SECRET}\n")).unwrap();
        fs::write(dir.join("sub/..data/b"), SECRET).unwrap();
        fs::write(dir.join("large"), vec![b'x'; 4097]).unwrap();
        fs::write(dir.join("binary"), [0xff; 16]).unwrap();
        symlink("..data/b", dir.join("sub/b")).unwrap();
        symlink("../outside", dir.join("escape")).unwrap();
        symlink(root.path(), dir.join("up")).unwrap();
        let store = SecretStore::new(KeyRing::default(), Some(dir));
        for name in ["a", "sub/b", "sub/..data/b", "./a"] {
            let want = if name == "./a" { Err(InvalidReference::File.into()) } else { Ok(secret()) };
            assert_eq!(store.resolve(1, &format!("file:{name}")), want, "{name}");
        }
        let absolute = root.path().join("outside");
        for name in ["../outside", "sub/../../outside", absolute.to_str().unwrap()] {
            let unnamed = Err(InvalidReference::File.into());
            assert_eq!(store.resolve(1, &format!("file:{name}")), unnamed, "{name}");
        }
        for name in ["escape", "up/outside", "up/secrets-too/a"] {
            assert_eq!(store.resolve(1, &format!("file:{name}")), Err(Unresolvable::Outside), "{name}");
        }
        for name in ["sub", "large", "binary"] {
            assert_eq!(store.resolve(1, &format!("file:{name}")), Err(Unresolvable::NoText), "{name}");
        }
        let absent = Unresolvable::Unreadable(io::ErrorKind::NotFound);
        assert_eq!(store.resolve(1, "file:absent"), Err(absent));
        assert_eq!(SecretStore::default().resolve(1, "file:a"), Err(Unresolvable::NoDirectory));
    }

    proptest! {
        #[test]
        fn no_text_is_worse_than_an_error(text in "(env:|file:|sealed:|whsec_)?\\PC{0,60}") {
            let store = SecretStore::new(KeyRing::default(), Some("/nonexistent".into()));
            prop_assert!(store.resolve(1, &text).is_err());
        }
    }
}
