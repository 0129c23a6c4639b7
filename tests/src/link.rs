//! The network between the daemon and the server: a TCP proxy that can hold everything back, as a router that has lost its
//! mind, or cut every connection, as one that has lost its state.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
    task::JoinHandle,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    is_held: bool,
    /// Connections of an earlier generation are closed.
    generation: u64,
}

/// A port of its own that leads to another one of this machine.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    /// The port that new connections lead to.
    target: Arc<AtomicU16>,
    state: watch::Sender<State>,
    accepts: JoinHandle<()>,
}

impl Link {
    /// # Panics
    /// If no port is free.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (state, seen) = watch::channel(State { is_held: false, generation: 0 });
        let target = Arc::new(AtomicU16::new(port));
        let leads_to = Arc::clone(&target);
        let accepts = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (seen, port) = (seen.clone(), leads_to.load(Ordering::Relaxed));
                tokio::spawn(async move {
                    // A server that is away refuses; so do we.
                    let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    let (near_in, near_out) = near.into_split();
                    let (far_in, far_out) = far.into_split();
                    tokio::select! {
                        () = carry(near_in, far_out, seen.clone()) => {}
                        () = carry(far_in, near_out, seen) => {}
                    }
                });
            }
        });
        Self { address, target, state, accepts }
    }

    /// Leads new connections to another port, as a name does that gets another address.
    pub fn lead_to(&self, port: u16) {
        self.target.store(port, Ordering::Relaxed);
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Nothing passes any more, in either direction; no connection ends for it.
    pub fn hold(&self) {
        self.state.send_modify(|state| state.is_held = true);
    }

    /// What was held back goes on.
    pub fn release(&self) {
        self.state.send_modify(|state| state.is_held = false);
    }

    /// Closes every connection there is; new ones may be made.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepts.abort();
        self.cut();
    }
}

/// Carries bytes one way until an end closes or the link is cut.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut seen: watch::Receiver<State>) {
    let generation = seen.borrow().generation;
    let mut cut = seen.clone();
    let carrying = async {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut bytes).await {
            if seen.wait_for(|state| !state.is_held).await.is_err()
                || to.write_all(&bytes[..count]).await.is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        () = carrying => {}
        _ = cut.wait_for(|state| state.generation != generation) => {}
    }
}
