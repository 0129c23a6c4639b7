//! The network between the daemon and the server: a TCP proxy that can hold all data back, like a
//! frozen proxy, or cut every connection, like a router that has lost its state.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering},
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
    /// Connections with a lower number are held for ever.
    held_below: u64,
    /// Connections with a lower number are closed.
    cut_below: u64,
}

/// A port that forwards to another port of this machine.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    /// The port that new connections are forwarded to.
    target: Arc<AtomicU16>,
    state: watch::Sender<State>,
    /// The number of the next connection.
    next: Arc<AtomicU64>,
    accepts: JoinHandle<()>,
}

impl Link {
    /// Starts a link to this port.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (state, seen) = watch::channel(State { is_held: false, held_below: 0, cut_below: 0 });
        let target = Arc::new(AtomicU16::new(port));
        let (leads_to, next) = (Arc::clone(&target), Arc::new(AtomicU64::new(0)));
        let numbers = Arc::clone(&next);
        let accepts = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (seen, port) = (seen.clone(), leads_to.load(Ordering::Relaxed));
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    // The link refuses connections while the server does.
                    let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    let (near_in, near_out) = near.into_split();
                    let (far_in, far_out) = far.into_split();
                    tokio::select! {
                        () = carry(near_in, far_out, number, seen.clone()) => {}
                        () = carry(far_in, near_out, number, seen) => {}
                    }
                });
            }
        });
        Self { address, target, state, next, accepts }
    }

    /// Forwards new connections to another port, like a name that gets another address.
    pub fn lead_to(&self, port: u16) {
        self.target.store(port, Ordering::Relaxed);
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Holds all data back, in both directions and also on new connections. No connection ends.
    pub fn hold(&self) {
        self.state.send_modify(|state| state.is_held = true);
    }

    /// Holds back the data of the present connections for ever. New connections work.
    pub fn hold_present(&self) {
        let next = self.next.load(Ordering::Relaxed);
        self.state.send_modify(|state| state.held_below = next);
    }

    /// Releases the data that [`hold`](Self::hold) has held back.
    pub fn release(&self) {
        self.state.send_modify(|state| state.is_held = false);
    }

    /// Closes all present connections. New connections work.
    pub fn cut(&self) {
        let next = self.next.load(Ordering::Relaxed);
        self.state.send_modify(|state| state.cut_below = next);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepts.abort();
        self.cut();
    }
}

/// Carries bytes one way until an end closes or the link is cut.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    number: u64,
    mut seen: watch::Receiver<State>,
) {
    let mut cut = seen.clone();
    let carrying = async {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut bytes).await {
            if seen.wait_for(|state| !state.is_held && number >= state.held_below).await.is_err()
                || to.write_all(&bytes[..count]).await.is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        () = carrying => {}
        _ = cut.wait_for(|state| number < state.cut_below) => {}
    }
}
