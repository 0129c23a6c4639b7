//! Clusters that are made from others (standbys, upgrades), and clusters with high transaction ids.

use super::{Cluster, STARTING, system::Account};
use crate::process::lock;
use std::{process::Command, sync::Arc};

impl Cluster {
    /// Starts a cluster whose next transaction id is this one.
    ///
    /// # Panics
    /// As [`Cluster::start`].
    pub async fn start_at_xid(xid: u32) -> Arc<Self> {
        let cluster = {
            let _one_at_a_time = lock(&STARTING);
            Arc::new(Self::init(&[]))
        };
        // No row may be older than half the range of ids, so there are three steps, and all rows
        // are frozen before each step.
        for next in [xid / 3, xid / 3 * 2, xid] {
            cluster.boot().await;
            cluster.existing("postgres").run("alter database template0 allow_connections true").await;
            cluster.complete(
                "vacuumdb",
                &[
                    "-h",
                    "127.0.0.1",
                    "-U",
                    "postgres",
                    "-p",
                    &cluster.port.to_string(),
                    "--all",
                    "--freeze",
                    "-q",
                ],
            );
            cluster.stop().await;
            let data = cluster.dir.path().join("data");
            cluster.complete("pg_resetwal", &["-x", &next.to_string(), "-D", &data.to_string_lossy()]);
            // The segment of the commit log for the id. A segment has 32 pages, and a page 32 768
            // transactions.
            let segment = data.join(format!("pg_xact/{:04X}", next / 32_768 / 32));
            std::fs::write(&segment, vec![0; 32 * 8192]).expect("the segment can be written");
            if let Some(Account(uid, gid)) = cluster.account {
                std::os::unix::fs::chown(&segment, Some(uid), Some(gid)).expect("root may chown");
            }
        }
        cluster.boot().await;
        cluster
    }

    /// Shuts this cluster down and upgrades it with `pg_upgrade`. Returns the running cluster of
    /// the version of `PGW_BIN`.
    ///
    /// # Panics
    /// If `pg_upgrade` fails, with its output.
    pub async fn upgraded(self: &Arc<Self>) -> Arc<Self> {
        // Debian's 15.20 adds an option to every column. A later pg_dump prints it and a later
        // server rejects it, so pg_upgrade would fail for every table.
        let names = "select string_agg(datname, ' ') from pg_database where datallowconn";
        for name in self.existing("postgres").text(names).await.unwrap_or_default().split(' ') {
            self.existing(name)
                .run(
                    "set allow_system_table_mods = on;
                     update pg_attribute set attoptions = null where attrelid >= 16384 and attoptions::text like '{pg_attver=%'",
                )
                .await;
        }
        self.stop().await;
        let new = {
            let _one_at_a_time = lock(&STARTING);
            Self::init(&[])
        };
        let mut upgrade = new.program("pg_upgrade");
        upgrade.arg("-b").arg(&self.bin).arg("-B").arg(&new.bin).args(["-U", "postgres"]);
        upgrade.arg("-d").arg(self.dir.path().join("data")).arg("-D").arg(new.dir.path().join("data"));
        upgrade
            .args(["-p", &self.port.to_string(), "-P", &new.port.to_string()])
            .env_remove("RUST_BACKTRACE");
        let done = upgrade.output().expect("pg_upgrade can be started");
        if !done.status.success() {
            let said = Command::new("grep")
                .args(["-rhE", "ERROR|error:", "pg_upgrade_output.d", "--include=*.log"])
                .current_dir(new.dir.path().join("data"))
                .output();
            let said = said.map(|grep| grep.stdout).unwrap_or_default();
            panic!("pg_upgrade: {}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&said));
        }
        new.boot().await;
        Arc::new(new)
    }

    /// Starts a standby that follows this cluster by streaming replication and accepts queries.
    ///
    /// # Panics
    /// If it cannot be created.
    pub async fn standby(&self) -> Arc<Self> {
        self.standby_through(self.port).await
    }

    /// Starts a standby that connects through another port that leads here, such as the port of a
    /// [`Link`](crate::link::Link).
    ///
    /// # Panics
    /// If it cannot be created.
    pub async fn standby_through(&self, port: u16) -> Arc<Self> {
        self.base_backup(port, &["-R"]).await
    }

    /// Starts a physical copy of this cluster that accepts writes, on a port of its own.
    ///
    /// # Panics
    /// If it cannot be created.
    pub async fn physical_copy(&self) -> Arc<Self> {
        self.base_backup(self.port, &[]).await
    }

    async fn base_backup(&self, port: u16, options: &[&str]) -> Arc<Self> {
        let mut copied = {
            let _one_at_a_time = lock(&STARTING);
            Self::init(&[])
        };
        let data = copied.dir.path().join("data");
        std::fs::remove_dir_all(&data).expect("it was made a moment ago");
        copied.settings = self.settings.clone();
        let mut copy = self.program("pg_basebackup");
        copy.args(["-h", "127.0.0.1", "-U", "postgres", "-c", "fast", "-X", "stream", "--no-sync", "-p"]);
        copy.arg(port.to_string()).arg("-D").arg(data).args(options);
        // Not in this task's thread, which may also carry the link to this cluster.
        let done = tokio::task::spawn_blocking(move || copy.output()).await.expect("it ends");
        let done = done.expect("pg_basebackup can be started");
        assert!(done.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&done.stderr));
        copied.boot().await;
        Arc::new(copied)
    }
}
