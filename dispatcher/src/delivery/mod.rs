//! What is sent, and what the answer means. Pure.

pub mod outcome;
pub mod payload;
pub mod retry_policy;
