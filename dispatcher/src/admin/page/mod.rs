//! The page.

use super::State;
use axum::Router;

pub fn router() -> Router<State> {
    Router::new()
}
