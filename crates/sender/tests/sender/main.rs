//! The sender against receivers that misbehave, over real sockets on loopback.

mod addresses;
mod answers;
mod certificates;
mod connections;
mod headers;
mod http2;
mod look_ups;
mod moves;
mod phases;
mod profiles;
mod proxy;
mod support;
mod tls;
