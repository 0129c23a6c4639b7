//! Recoveries of a cluster in place, on its own port: to a point in time, and from a snapshot of
//! its disk.

use super::{Cluster, system::Account};
use crate::PATIENCE;
use std::{
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
};

/// Copies files or folders with their owners.
fn copy(from: &[PathBuf], to: &Path) {
    let done = Command::new("cp").arg("-a").args(from).arg(to).output().expect("cp can be started");
    assert!(done.status.success(), "cp: {}", String::from_utf8_lossy(&done.stderr));
}

impl Cluster {
    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Takes the base backup that [`recover_to`](Self::recover_to) starts from. The cluster needs
    /// the setting `wal_keep_size=4GB`.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn back_up(&self) {
        let mut backup = self.program("pg_basebackup");
        backup.args(["-h", "127.0.0.1", "-U", "postgres", "-c", "fast", "-X", "stream", "--no-sync", "-p"]);
        let done = backup.arg(self.port.to_string()).arg("-D").arg(self.dir.path().join("backup")).output();
        let done = done.expect("pg_basebackup can be started");
        assert!(done.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&done.stderr));
        std::fs::create_dir(self.dir.path().join("archive")).expect("a folder");
    }

    /// Shuts the cluster down, and recovers it from the base backup to a restore point
    /// (`pg_create_restore_point`). Then it accepts connections on a new timeline.
    ///
    /// # Panics
    /// If it does not recover.
    pub async fn recover_to(self: &std::sync::Arc<Self>, point: &str) {
        self.stop().await;
        let (data, archive) = (self.data(), self.dir.path().join("archive"));
        let log = std::fs::read_dir(data.join("pg_wal")).expect("a folder");
        let log = log.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file());
        copy(&log.collect::<Vec<_>>(), &archive);
        std::fs::remove_dir_all(&data).expect("the data can be removed");
        copy(&[self.dir.path().join("backup")], &data);
        let settings = format!(
            "restore_command = 'cp {}/%f %p'\nrecovery_target_name = '{point}'\nrecovery_target_action = promote\nhot_standby = off\n",
            archive.display()
        );
        for (name, text) in [("postgresql.auto.conf", settings.as_str()), ("recovery.signal", "")] {
            let path = data.join(name);
            std::fs::write(&path, text).expect("it can be written");
            if let Some(Account(uid, gid)) = self.account {
                chown(&path, Some(uid), Some(gid)).expect("root may chown");
            }
        }
        self.boot().await;
        self.existing("postgres").until("select not pg_is_in_recovery()", PATIENCE).await;
    }

    /// Shuts the cluster down, copies its files and starts it again.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn take_snapshot(&self) {
        self.stop().await;
        copy(&[self.data()], &self.dir.path().join("snapshot"));
        self.boot().await;
    }

    /// Shuts the cluster down, and starts it from the files that
    /// [`take_snapshot`](Self::take_snapshot) has copied.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn restore_snapshot(&self) {
        self.stop().await;
        std::fs::remove_dir_all(self.data()).expect("the data can be removed");
        copy(&[self.dir.path().join("snapshot")], &self.data());
        self.boot().await;
    }
}
