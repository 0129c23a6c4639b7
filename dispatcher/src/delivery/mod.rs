//! What is sent, and what the answer means. Pure.

pub mod batch;
pub mod body;
pub mod compact;
pub mod headers;
pub mod identity;
pub mod members;
pub mod outcome;
pub mod retry_policy;
pub mod shape;
