//! A name server for one daemon, in place of the machine's.
//!
//! A preloaded library (`name_server.c`) gives the server to glibc's own resolver, which sends real
//! queries. The machine's `/etc/nsswitch.conf` must name `dns` for hosts, as Debian's does.

use crate::{PATIENCE, preloaded, process::lock};
use std::{
    collections::HashMap,
    ffi::OsStr,
    net::Ipv4Addr,
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
};
use tempfile::TempDir;
use tokio::{net::UdpSocket, sync::Notify, task::AbortHandle, time::timeout};

/// Type of a query for an IPv4 address (RFC 1035, 3.2.2).
const A: [u8; 2] = [0, 1];
const HEAD_BYTES: usize = 12;

/// Answers that names under `known.example` lead to this machine. Never answers other queries.
#[derive(Debug)]
pub struct NameServer {
    _folder: TempDir,
    library: PathBuf,
    port: u16,
    queries: Arc<Queries>,
    task: AbortHandle,
}

/// The number of queries for the IPv4 address of each name.
#[derive(Debug, Default)]
struct Queries {
    of: Mutex<HashMap<String, usize>>,
    /// Is notified of each query.
    more: Notify,
}

impl NameServer {
    /// Starts the server and compiles the library.
    ///
    /// # Panics
    /// If the C compiler fails.
    pub async fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = socket.local_addr().expect("it is bound").port();
        let folder = tempfile::tempdir().expect("a folder");
        let library = preloaded::compile("name_server.c", folder.path());
        let queries = Arc::<Queries>::default();
        let task = tokio::spawn(answer(socket, Arc::clone(&queries))).abort_handle();
        Self { _folder: folder, library, port, queries, task }
    }

    /// Returns the command that runs a program with this name server.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("LD_PRELOAD", &self.library);
        command.env("NAME_SERVER_PORT", self.port.to_string());
        command
    }

    /// Returns the number of queries for the IPv4 address of each name that ends so.
    pub fn asked(&self, end: &str) -> HashMap<String, usize> {
        let asked = lock(&self.queries.of);
        asked.iter().filter(|(name, _)| name.ends_with(end)).map(|(name, n)| (name.clone(), *n)).collect()
    }

    /// Waits until this many names that end so have been asked for.
    ///
    /// # Panics
    /// If they are not within [`PATIENCE`].
    pub async fn wait_for(&self, end: &str, count: usize) {
        let asked = async {
            while self.asked(end).len() < count {
                self.queries.more.notified().await;
            }
        };
        timeout(PATIENCE, asked).await.expect("the names are asked for");
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(socket: UdpSocket, queries: Arc<Queries>) {
    let mut bytes = [0; 512];
    while let Ok((length, peer)) = socket.recv_from(&mut bytes).await {
        let Some((name, kind, end)) = question(&bytes[..length]) else { continue };
        if kind == A {
            *lock(&queries.of).entry(name.clone()).or_default() += 1;
            queries.more.notify_one();
        }
        if name.ends_with(".known.example") {
            // The client may be gone.
            let _ = socket.send_to(&response(&bytes[..end], kind), peer).await;
        }
    }
}

/// Parses the question of a query: its name, its type, and where it ends.
fn question(query: &[u8]) -> Option<(String, [u8; 2], usize)> {
    let (mut at, mut labels) = (HEAD_BYTES, Vec::new());
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).into_owned());
        at += length;
    }
    Some((labels.join("."), query.get(at..at + 2)?.try_into().ok()?, at + 4))
}

/// Returns the response to a query: one address of this machine, or none of the requested type.
fn response(query: &[u8], kind: [u8; 2]) -> Vec<u8> {
    let mut response = query.to_vec();
    // A response without an error, with recursion; one question, perhaps an answer, nothing more.
    response[2..4].copy_from_slice(&[0x81, 0x80]);
    response[4..HEAD_BYTES].copy_from_slice(&[0, 1, 0, u8::from(kind == A), 0, 0, 0, 0]);
    if kind == A {
        // The question's name, type A, class IN, no caching, four bytes.
        response.extend([0xc0, HEAD_BYTES as u8, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
    }
    response
}
