//! What is sent, and what the answer means. Pure.

pub mod batch;
pub mod compact;
pub mod headers;
pub mod outcome;
pub mod payload;
pub mod retry_policy;
pub mod shape;
