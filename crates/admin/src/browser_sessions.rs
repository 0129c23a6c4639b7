//! Sessions of browsers: the page's cookie holds the id of a session of this process, and not the
//! token.
//!
//! Browsers send a cookie to every port of a host. A session id is useless to other programs there
//! once the visitor has signed out, or this process has ended. Nothing is stored outside the
//! process.

use crate::token::Token;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a session lasts.
pub const LASTS: Duration = Duration::from_secs(12 * 3600);

/// Maximum number of sessions with one token, and in total. Beyond it, the oldest one ends.
const PER_TOKEN_MAX: usize = 32;
const SESSIONS_MAX: usize = 10_000;

#[derive(Debug)]
struct Session {
    token: Token,
    opened_at: Instant,
}

/// The open sessions, by the hash of their ids.
#[derive(Debug, Default)]
pub struct BrowserSessions(Mutex<HashMap<[u8; 32], Session>>);

fn hash(id: &str) -> [u8; 32] {
    Sha256::digest(id.as_bytes()).into()
}

impl BrowserSessions {
    /// Opens a session. Returns its id.
    ///
    /// # Errors
    /// Returns an error if the operating system has no random numbers.
    pub fn open(&self, token: Token, now: Instant) -> Result<String, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        let id = URL_SAFE_NO_PAD.encode(bytes);
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| now.duration_since(session.opened_at) < LASTS);
        let own = sessions.values().filter(|session| session.token == token).count();
        if own >= PER_TOKEN_MAX || sessions.len() >= SESSIONS_MAX {
            let is_candidate = |session: &Session| own < PER_TOKEN_MAX || session.token == token;
            let candidates = sessions.iter().filter(|(_, session)| is_candidate(session));
            let oldest = candidates.min_by_key(|(_, session)| session.opened_at).map(|(id, _)| *id);
            oldest.and_then(|id| sessions.remove(&id));
        }
        sessions.insert(hash(&id), Session { token, opened_at: now });
        Ok(id)
    }

    /// Returns the token of a session.
    pub fn token(&self, id: &str, now: Instant) -> Option<Token> {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get(&hash(id))?;
        (now.duration_since(session.opened_at) < LASTS).then(|| session.token.clone())
    }

    /// Ends a session.
    pub fn close(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&hash(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::TokenKind;

    #[test]
    fn a_session_ends_when_it_is_closed_or_old() {
        let (sessions, now, token) =
            (BrowserSessions::default(), Instant::now(), Token::generate(TokenKind::Bearer).unwrap());
        let (one, two) =
            (sessions.open(token.clone(), now).unwrap(), sessions.open(token.clone(), now).unwrap());
        assert_ne!(one, two);
        assert!(!one.contains(token.reveal()));
        assert_eq!(sessions.token(&one, now), Some(token));
        sessions.close(&one);
        assert_eq!(sessions.token(&one, now), None);
        assert!(sessions.token(&two, now + LASTS - Duration::from_secs(1)).is_some());
        assert_eq!(sessions.token(&two, now + LASTS), None);
        assert_eq!(sessions.token("", now), None);
    }

    #[test]
    fn one_token_ends_only_its_own_sessions() {
        let (sessions, now) = (BrowserSessions::default(), Instant::now());
        let (mine, other) =
            (Token::generate(TokenKind::Bearer).unwrap(), Token::generate(TokenKind::Bearer).unwrap());
        let theirs = sessions.open(other, now).unwrap();
        let at = |n: u64| now + Duration::from_millis(n);
        let ids: Vec<String> =
            (0..=PER_TOKEN_MAX as u64).map(|n| sessions.open(mine.clone(), at(n)).unwrap()).collect();
        assert_eq!(sessions.token(&ids[0], at(99)), None, "the oldest");
        assert!(ids[1..].iter().all(|id| sessions.token(id, at(99)).is_some()));
        assert!(sessions.token(&theirs, at(99)).is_some());
    }
}
