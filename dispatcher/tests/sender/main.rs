//! The sender against receivers that misbehave, over real sockets on loopback.

mod addresses;
mod answers;
mod connections;
mod headers;
mod phases;
mod support;
mod tls;
