//! End-to-end tests: what they all need.
