//! Reads files again at SIGHUP: certificates, keys, the secrets of subscriptions, and the password
//! of the database. Other settings change only by a restart.
//!
//! If one of the files cannot be used, the daemon logs which one, and all former ones stay in use.

use crate::config::{self, Reread};
use database::{Target, chain};
use sender::tls::{self, Tls};
use source::secret_store::SecretStore;
use std::sync::Arc;
use tokio::sync::Notify;
use traces::Traces;
use tracing::{error, info};

/// Reads the files of the settings.
type Read = dyn Fn() -> Result<Reread, config::Error> + Send + Sync;

/// When to read again, and how.
pub struct Reload {
    hangup: Arc<Notify>,
    read: Arc<Read>,
}

/// What takes the new files.
pub struct Users {
    pub database: Target,
    pub secrets: Arc<SecretStore>,
    pub tls: Arc<Tls>,
    pub traces: Option<Arc<Traces>>,
}

impl Reload {
    pub fn new(
        hangup: Arc<Notify>,
        read: impl Fn() -> Result<Reread, config::Error> + Send + Sync + 'static,
    ) -> Self {
        Self { hangup, read: Arc::new(read) }
    }

    /// Reads the files at each hangup. Never returns.
    pub async fn run(self, users: Users) {
        let users = Arc::new(users);
        loop {
            self.hangup.notified().await;
            let (read, users) = (Arc::clone(&self.read), Arc::clone(&users));
            // Reading files blocks. A panic leaves the former files in use.
            let _ = tokio::task::spawn_blocking(move || users.reload(&*read)).await;
        }
    }
}

impl Users {
    fn reload(&self, read: &Read) {
        match self.try_reload(read) {
            Ok(()) => info!("settings.reloaded"),
            Err(why) => error!(error = chain(&why), "settings.unusable; the former files stay in use"),
        }
    }

    /// Reads the keys and the database's files before it uses any of them. Certificates are taken
    /// only together.
    fn try_reload(&self, read: &Read) -> Result<(), config::Error> {
        let Reread { database, keys } = read()?;
        self.tls.reload()?;
        if let Some(traces) = &self.traces {
            traces.reload().map_err(tls::Unusable::from)?;
        }
        self.database.adopt(&database);
        self.secrets.reload(keys);
        Ok(())
    }
}
