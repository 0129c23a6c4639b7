//! The rules of a delivery: its body and headers, the meaning of the response, and the time of a
//! retry. Pure: nothing here reads the clock, the network, or the database.
//!
//! The exception is [`identity`], which reads this machine's name.

pub mod batch;
pub mod body;
pub mod compact;
pub mod headers;
pub mod identity;
pub mod members;
pub mod outcome;
pub mod retry_policy;
pub mod shape;
