//! A pgbouncer in transaction mode in front of a database: a client gets another session for each
//! transaction, and its session goes to other clients.

use crate::{PATIENCE, cluster::Database, process::Process};
use std::{net::TcpListener, path::Path, process::Command};
use tokio_postgres::{Client, Config, NoTls};

/// A running pooler.
#[derive(Debug)]
pub struct Pooler {
    port: u16,
    database: String,
    _process: Process,
}

impl Pooler {
    /// Starts it with at most this many sessions with Postgres.
    ///
    /// # Panics
    /// If there is no pgbouncer (`scripts/setup.sh test` installs it), or it does not start.
    pub async fn start(database: &Database, sessions: u32) -> Self {
        let places = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"].map(Path::new);
        let program = places.into_iter().find(|program| program.exists()).expect("pgbouncer is installed");
        let port = {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            listener.local_addr().expect("it is bound").port()
        };
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = {sessions}\nignore_startup_parameters = extra_float_digits\n",
            database.cluster.port()
        );
        let file = database.cluster.dir().join("pgbouncer.ini");
        std::fs::write(&file, settings).expect("the cluster's directory is ours");
        let mut command = Command::new(program);
        command.arg(file);
        let process = database.cluster.spawn("pgbouncer", command);
        process.wait_for_line(|line| line.contains("process up"), PATIENCE).await;
        Self { port, database: database.name.clone(), _process: process }
    }

    /// Returns the URL of the database through the pooler.
    pub fn url(&self) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{}", self.port, self.database)
    }

    /// Connects a client. Use only `batch_execute` and `simple_query`: the pooler does not keep
    /// prepared statements.
    ///
    /// # Panics
    /// If it cannot connect.
    pub async fn client(&self) -> Client {
        let config: Config = self.url().parse().expect("a URL");
        let (client, connection) = config.connect(NoTls).await.expect("it connects");
        tokio::spawn(async move { drop(connection.await) });
        client
    }
}
