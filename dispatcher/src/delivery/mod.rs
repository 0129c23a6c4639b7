//! What is sent, and what the answer means. Pure.

pub mod batch;
pub mod body;
pub mod compaction;
pub mod headers;
pub mod identity;
pub mod outcome;
pub mod retry_policy;
pub mod shape;
