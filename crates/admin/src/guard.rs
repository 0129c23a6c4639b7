//! Access control of the admin server: who may send a request, how often, and from which page.
//!
//! Checks the address, the `Host` and `Origin` headers, the limits on requests, and the bearer
//! token, the page's cookie, or the key in its path. A request without a token acts as `open_as`,
//! which only a loopback address allows. This module reads `webhook.token` and
//! `webhook.portal_link`, and writes nothing. It decides who the caller is; Postgres decides what
//! the caller may do.

use crate::{
    State,
    body::whole,
    caller::{Caller, ConcurrencyLimit, Peer, Permit, forwarded_for, is_within},
    portal::{self, SessionKey},
    problem::Problem,
    sessions::{Call, Pool, Work, wait_for},
    token::{Token, TokenKind},
};
use axum::{
    extract::{FromRequestParts, Request, State as Shared},
    http::{HeaderMap, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ipnet::IpNet;
use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::time::timeout;
use tokio_postgres::Row;
use url::{Host, Url};

/// Requests per second and burst: from one address, and with one token.
const PER_ADDRESS: Quota = quota(400, 800);
const PER_TOKEN: Quota = quota(300, 600);

/// Maximum number of requests with one token that wait for or use the database. The limit leaves
/// capacity for other tokens.
const AT_ONCE_PER_TOKEN: usize = 16;

/// The same for all tokens, and all sessions of the page, that are limited to one owner.
const AT_ONCE_PER_OWNER: usize = 64;

/// Timeout of a whole request. A streamed response starts at once and may last longer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Names of the cookie that holds the id of the page's session. Browsers accept the second one only
/// over TLS, and send it only to the host that has set it (RFC 6265bis, 4.1.3).
pub const COOKIE: &str = "webhookd_session";
pub const COOKIE_TLS: &str = "__Host-webhookd_session";

/// Maximum number of forms that sign in and are being read, for one address.
const LOGINS_PER_ADDRESS: usize = 8;

/// Maximum number of request bodies that are being read, and of streams, for one token.
const BODIES_PER_TOKEN: usize = 16;
const STREAMS_PER_TOKEN: usize = 8;

/// How long a token counts as valid before the body of its next request is read. The request itself
/// looks it up again.
const RECOGNISED_FOR: Duration = Duration::from_secs(10);
const RECOGNISED_MAX: usize = 10_000;

/// The path of the metrics, which have a session of Postgres of their own.
pub const METRICS_PATH: &str = "/metrics";

const fn quota(per_second: u32, burst: u32) -> Quota {
    let (Some(per_second), Some(burst)) = (NonZeroU32::new(per_second), NonZeroU32::new(burst)) else {
        panic!("a quota is not zero")
    };
    Quota::per_second(per_second).allow_burst(burst)
}

/// The limits, and the rule for requests without a token.
pub struct Guard {
    /// Requests without a token act as this role. Set only on a loopback address.
    pub open_as: Option<String>,
    trust_proxy: Vec<IpNet>,
    addresses: DefaultKeyedRateLimiter<Peer>,
    tokens: DefaultKeyedRateLimiter<[u8; 32]>,
    at_once: Arc<ConcurrencyLimit<[u8; 32]>>,
    owners: Arc<ConcurrencyLimit<String>>,
    pub bodies: Arc<ConcurrencyLimit<[u8; 32]>>,
    pub logins: Arc<ConcurrencyLimit<Peer>>,
    streams: Arc<ConcurrencyLimit<[u8; 32]>>,
    recognised: Mutex<HashMap<[u8; 32], Instant>>,
}

impl Guard {
    pub fn new(open_as: Option<String>, trust_proxy: Vec<IpNet>) -> Self {
        Self {
            open_as,
            trust_proxy,
            addresses: RateLimiter::keyed(PER_ADDRESS),
            tokens: RateLimiter::keyed(PER_TOKEN),
            at_once: ConcurrencyLimit::of_at_most(AT_ONCE_PER_TOKEN),
            owners: ConcurrencyLimit::of_at_most(AT_ONCE_PER_OWNER),
            bodies: ConcurrencyLimit::of_at_most(BODIES_PER_TOKEN),
            logins: ConcurrencyLimit::of_at_most(LOGINS_PER_ADDRESS),
            streams: ConcurrencyLimit::of_at_most(STREAMS_PER_TOKEN),
            recognised: Mutex::default(),
        }
    }

    /// Reports whether the address is a proxy whose `X-Forwarded-For` is trusted.
    pub fn is_proxy(&self, ip: IpAddr) -> bool {
        is_within(&self.trust_proxy, ip)
    }

    /// Returns the client of a request that arrived from this address.
    pub fn peer(&self, ip: IpAddr, headers: &HeaderMap) -> Peer {
        let forwarded = if self.is_proxy(ip) { forwarded_for(headers, &self.trust_proxy) } else { None };
        Peer::from(forwarded.unwrap_or(ip))
    }

    /// Takes a place for a stream. Returns `None` if all places of the token are taken.
    pub fn stream(&self, token: Option<&Token>) -> Option<Permit<[u8; 32]>> {
        self.streams.enter(&token.map(Token::sha256).unwrap_or_default())
    }

    /// Reports whether the token was valid lately.
    fn knows(&self, sha256: &[u8; 32]) -> bool {
        let recognised = self.recognised.lock().unwrap_or_else(PoisonError::into_inner);
        recognised.get(sha256).is_some_and(|at| at.elapsed() < RECOGNISED_FOR)
    }

    fn note_valid(&self, sha256: [u8; 32]) {
        let mut recognised = self.recognised.lock().unwrap_or_else(PoisonError::into_inner);
        if recognised.len() >= RECOGNISED_MAX {
            recognised.clear();
        }
        recognised.insert(sha256, Instant::now());
    }

    /// Drops the limiters of clients and tokens that have sent nothing for a while.
    pub fn tidy(&self) {
        self.addresses.retain_recent();
        self.tokens.retain_recent();
    }
}

/// Applies the rate limits, the check for foreign pages, and the timeout.
pub async fn admit(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    match refuse(&state.guard, &request) {
        Some(problem) => problem.into_response(),
        None => match timeout(REQUEST_TIMEOUT, whole(&state, request, next)).await {
            Ok(response) => response,
            Err(_) => Problem::unavailable("the request took too long").into_response(),
        },
    }
}

fn refuse(guard: &Guard, request: &Request) -> Option<Problem> {
    let peer = request.extensions().get::<Peer>()?;
    if guard.addresses.check_key(peer).is_err() {
        return Some(Problem::too_many());
    }
    let headers = request.headers();
    // Without a token, only the loopback address protects us. DNS rebinding can make another site's
    // name resolve to this machine. The browser then sends that name in `Host`.
    if guard.open_as.is_some() && !is_loopback(headers) {
        let detail = "without tokens, the host must be 127.0.0.1, [::1] or localhost";
        return Some(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail));
    }
    // A page of an owner has no cookie. Its path has the key, which other sites do not know.
    let has_key = portal::is_portal(request.uri().path());
    if is_unsafe(request.method()) && !has_key && is_foreign(headers) {
        return Some(Problem::new(StatusCode::FORBIDDEN, "the request comes from a page of another site"));
    }
    None
}

fn is_unsafe(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn is_loopback(headers: &HeaderMap) -> bool {
    let host = text(headers, header::HOST).and_then(|host| Url::parse(&format!("http://{host}/")).ok());
    match host.as_ref().and_then(Url::host) {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// Reports whether a browser says that another site's page sent the request. Browsers name the
/// origin of every request that changes something; programs send no origin.
fn is_foreign(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").and_then(|site| site.to_str().ok());
    match site {
        // The browser has compared the origins. Behind a proxy, `Host` can differ from the host
        // that the browser used.
        Some("same-origin") => return false,
        Some("none") | None => {}
        Some(_) => return true,
    }
    let Some(origin) = text(headers, header::ORIGIN) else { return headers.contains_key(header::ORIGIN) };
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_none() || authority != text(headers, header::HOST)
}

/// Returns the bearer token of a program.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = text(headers, header::AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Returns the session id in the page's cookie.
pub fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|line| line.split(';')).find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        ((name == COOKIE || name == COOKIE_TLS) && !value.is_empty()).then_some(value)
    })
}

/// Reports whether the request has `If-Match`. Such a request runs at REPEATABLE READ, so that the
/// check and the update see the same row.
fn is_conditional(headers: &HeaderMap) -> bool {
    headers.contains_key(header::IF_MATCH)
}

/// A request whose token is missing, unknown or expired.
fn unknown() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "a token is required")
        .hint("Create a token with webhookd token create, and send it as Authorization: Bearer …")
}

impl State {
    /// Returns the token of a visitor of the page: the key of an owner's session, or the token of
    /// the session in the cookie. Returns `None` without either.
    ///
    /// # Errors
    /// Returns 401 if the session has ended.
    pub fn visitor_token(
        &self,
        headers: &HeaderMap,
        key: Option<&SessionKey>,
    ) -> Result<Option<Token>, Problem> {
        if let Some(SessionKey(key)) = key {
            return Ok(Some(key.clone()));
        }
        let Some(id) = cookie(headers) else { return Ok(None) };
        self.browser_sessions.token(id, Instant::now()).map(Some).ok_or_else(unknown)
    }

    /// Returns the key of the request's token if it is valid. A request without one has a key if
    /// the server is open.
    pub async fn recognise(&self, parts: &Parts) -> Option<[u8; 32]> {
        let key = parts.extensions.get::<SessionKey>();
        let token = match bearer(&parts.headers) {
            Some(text) if key.is_none() => Some(Token::parse(TokenKind::Bearer, text)?),
            _ => self.visitor_token(&parts.headers, key).ok()?,
        };
        let Some(token) = token else { return self.guard.open_as.is_some().then(Default::default) };
        let sha256 = token.sha256();
        if !self.guard.knows(&sha256) {
            self.enter(Some(&token), false, Pool::Callers).await.ok()?;
            self.guard.note_valid(sha256);
        }
        Some(sha256)
    }

    /// Begins a transaction with the daemon's rights and a statement about the hash of a token.
    ///
    /// # Errors
    /// Returns 429 if a limit is reached, and 503 if no session is available.
    pub async fn find(
        &self,
        token: &Token,
        is_repeatable: bool,
        pool: Pool,
        sql: &str,
    ) -> Result<(Work, Vec<Row>), Problem> {
        let sha256 = token.sha256();
        if self.guard.tokens.check_key(&sha256).is_err() {
            return Err(Problem::too_many());
        }
        let place = self.guard.at_once.enter(&sha256).ok_or_else(Problem::too_many)?;
        let first: Call<'_> = (sql, &[&sha256.as_slice()]);
        self.database.begin(is_repeatable, pool, Some(place), Some(first)).await
    }

    /// Begins the transaction of a request with this token, or without one.
    ///
    /// # Errors
    /// Returns 401 if the token is missing, unknown or expired, 403 if the daemon may not act as
    /// the caller's role, 429 if a limit is reached, and 503 if no session is available.
    pub async fn enter(
        &self,
        token: Option<&Token>,
        is_repeatable: bool,
        pool: Pool,
    ) -> Result<Work, Problem> {
        let (mut work, caller) = match (token, &self.guard.open_as) {
            (None, Some(role)) => {
                let (work, _) = self.database.begin(is_repeatable, pool, None, None).await?;
                (work, Caller { role: role.clone(), owner: None, owner_role: None })
            }
            (None, None) => return Err(unknown()),
            (Some(token), _) => self.find_caller(token, is_repeatable, pool).await?,
        };
        work.act_as(caller).await?;
        Ok(work)
    }

    /// Begins the transaction of a request with this token, and finds its caller.
    ///
    /// An owner can have many tokens and sessions of the page. Its requests share the turns of one
    /// token, so that they leave sessions of Postgres to other owners.
    async fn find_caller(
        &self,
        token: &Token,
        is_repeatable: bool,
        pool: Pool,
    ) -> Result<(Work, Caller), Problem> {
        let who = match token.kind() {
            TokenKind::Bearer => include_str!("sql/token_caller.sql"),
            TokenKind::Session => include_str!("sql/session_caller.sql"),
            // A link is opened, and is not a caller.
            TokenKind::Link => return Err(unknown()),
        };
        let mut turn = None;
        loop {
            let (mut work, rows) = self.find(token, is_repeatable, pool, who).await?;
            let row = rows.first().ok_or_else(unknown)?;
            let caller =
                Caller { role: row.try_get(0)?, owner: row.try_get(1)?, owner_role: row.try_get(2)? };
            let Some(owner) = &caller.owner else { return Ok((work, caller)) };
            if turn.is_none() {
                let place = self.guard.owners.enter(owner).ok_or_else(Problem::too_many)?;
                let Ok(own) = place.turns().try_acquire_owned() else {
                    // Others use the session until it is this owner's turn.
                    drop(work);
                    turn = Some((wait_for(place.turns()).await?, place));
                    continue;
                };
                turn = Some((own, place));
            }
            work.hold(turn);
            return Ok((work, caller));
        }
    }
}

/// The transaction of a REST API request.
pub struct Api(pub Work);

impl FromRequestParts<State> for Api {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let headers = &parts.headers;
        if headers.contains_key(header::AUTHORIZATION) && bearer(headers).is_none() {
            return Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "the header Authorization must be Bearer followed by a token",
            ));
        }
        let pool = if parts.uri.path() == METRICS_PATH { Pool::Operators } else { Pool::Callers };
        let token = match bearer(headers) {
            Some(text) => Some(Token::parse(TokenKind::Bearer, text).ok_or_else(unknown)?),
            None => None,
        };
        state.enter(token.as_ref(), is_conditional(headers), pool).await.map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| ((*name).parse().unwrap(), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn only_this_machine_s_own_names_are_open() {
        for host in ["localhost", "localhost:8080", "127.0.0.1:1", "127.1.2.3", "[::1]:80"] {
            assert!(is_loopback(&headers(&[("host", host)])), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", "10.0.0.1", "[::2]", "127.0.0.1.evil.example", ""]
        {
            assert!(!is_loopback(&headers(&[("host", host)])), "{host}");
        }
        assert!(!is_loopback(&headers(&[])));
    }

    #[test]
    fn a_page_of_elsewhere_is_told_by_what_its_browser_says() {
        let host = ("host", "127.0.0.1:8080");
        assert!(!is_foreign(&headers(&[host])), "a program");
        assert!(!is_foreign(&headers(&[host, ("origin", "http://127.0.0.1:8080")])));
        assert!(!is_foreign(&headers(&[
            host,
            ("origin", "http://127.0.0.1:8080"),
            ("sec-fetch-site", "same-origin")
        ])));
        let behind_proxy = [host, ("origin", "https://hooks.example.com"), ("sec-fetch-site", "same-origin")];
        assert!(!is_foreign(&headers(&behind_proxy)), "the browser knows");
        assert!(is_foreign(&headers(&[behind_proxy[0], behind_proxy[1], ("sec-fetch-site", "none")])));
        assert!(is_foreign(&headers(&behind_proxy[..2])), "the origins differ");
        for origin in
            ["http://evil.example", "null", "http://127.0.0.1:8081", "http://127.0.0.1:8080.evil.example"]
        {
            assert!(is_foreign(&headers(&[host, ("origin", origin)])), "{origin}");
        }
        for site in ["cross-site", "same-site", "x"] {
            assert!(is_foreign(&headers(&[host, ("sec-fetch-site", site)])), "{site}");
        }
    }

    #[test]
    fn an_ipv6_network_is_one_peer() {
        let peer = |text: &str| Peer::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(peer("2001:db8:1:2:3:4:5:6"), peer("2001:db8:1:2::1"));
        assert_ne!(peer("2001:db8:1:2::1"), peer("2001:db8:1:3::1"));
        assert_eq!(peer("::ffff:10.0.0.1"), peer("10.0.0.1"));
        assert_ne!(peer("10.0.0.2"), peer("10.0.0.1"));
    }

    #[test]
    fn only_a_trusted_proxy_says_whose_request_it_is() {
        let guard = Guard::new(None, vec!["127.0.0.0/8".parse().unwrap(), "10.1.0.0/16".parse().unwrap()]);
        let peer = |ip: &str, lines: &[&'static str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
            let mut map = HeaderMap::new();
            for (name, value) in lines {
                map.append(name, HeaderValue::from_static(value));
            }
            guard.peer(ip.parse().unwrap(), &map)
        };
        let is = |ip: &str| Peer::from(ip.parse::<IpAddr>().unwrap());
        assert_eq!(peer("192.0.2.1", &["198.51.100.7"]), is("192.0.2.1"), "forged");
        for (lines, wanted) in [
            (["198.51.100.7"].as_slice(), "198.51.100.7"),
            (&["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
            (&["198.51.100.7, 10.1.2.3, 127.0.0.2"], "198.51.100.7"),
            (&["203.0.113.9", "198.51.100.7,10.1.2.3"], "198.51.100.7"),
            (&["198.51.100.7:4711"], "198.51.100.7"),
            (&["[2001:db8::1]:443"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["198.51.100.7, unknown, 10.1.2.3"], "10.1.2.3"),
            (&["10.1.2.3"], "10.1.2.3"),
            (&["unknown"], "127.0.0.1"),
            (&[""], "127.0.0.1"),
            (&[], "127.0.0.1"),
        ] {
            assert_eq!(peer("127.0.0.1", lines), is(wanted), "{lines:?}");
        }
        assert_eq!(peer("::ffff:127.0.0.1", &["198.51.100.7"]), is("198.51.100.7"), "of a socket for both");
    }

    #[test]
    fn tokens_are_found_where_they_belong() {
        assert_eq!(bearer(&headers(&[("authorization", "Bearer abc")])), Some("abc"));
        assert_eq!(bearer(&headers(&[("authorization", "bearer  abc ")])), Some("abc"));
        for value in ["Basic abc", "abc", ""] {
            assert_eq!(bearer(&headers(&[("authorization", value)])), None, "{value}");
        }
        assert_eq!(cookie(&headers(&[("cookie", "a=b; webhookd_session=abc; c=d")])), Some("abc"));
        assert_eq!(cookie(&headers(&[("cookie", "__Host-webhookd_session=abc")])), Some("abc"));
        assert_eq!(cookie(&headers(&[("cookie", "xwebhookd_session=abc")])), None);
    }
}
