//! The behaviours of a receiver. The first segments of the path name one, sometimes with a query.

use std::time::Duration;
use url::form_urlencoded;

/// What the receiver does after it has read a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// `/ok`: 200 at once.
    Ok,
    /// `/status/503`: that status.
    Status(u16),
    /// `/slow/1500`: 200 after this many milliseconds.
    Slow(Duration),
    /// `/flaky/3`: the first three attempts of every `webhook-id` get 500, later ones 200.
    Flaky(u32),
    /// `/drip`: the head at once, then a byte of the body per second for ever.
    Drip,
    /// `/hang`: no answer.
    Hang,
    /// `/hold`: an answer only after [`Receiver::release`](super::Receiver::release).
    Hold,
    /// `/reset`: the connection is torn down with RST instead of an answer.
    Reset,
    /// `/close`: the connection is closed instead of an answer.
    Close,
    /// `/close-after`: 200 that promises keep-alive, then the connection is closed.
    CloseAfter,
    /// `/half-headers`: the connection is closed in the middle of the answer's head.
    HalfHeaders,
    /// `/cut`: 200, and the connection is closed in the middle of the body.
    Cut,
    /// `/huge/104857600`: 200 with this many bytes of body; `/huge/1000000/503` with that status.
    Huge(u64, u16),
    /// `/endless`: 500 with a chunked body that has no end.
    Endless,
    /// `/gzip-bomb`: 500 whose body claims to be gzip, and inflates to a thousand times its size.
    GzipBomb,
    /// `/gone`: 410.
    Gone,
    /// `/redirect?to=http://…`: 302 to this URL; `/redirect/308?to=…` with that status.
    Redirect(u16, String),
    /// `/retry-after?v=120`: 429 with that header; `/retry-after/503?v=…` with that status.
    /// `v=in:5` is the HTTP date of five seconds from now (`in:-5`: ago).
    RetryAfter(u16, String),
    /// `/limit/1048576`: 413 if the request's body is longer, otherwise 200.
    Limit(usize),
    /// `/rejects/TEXT`: 422 if the request's body contains this text, otherwise 200.
    Rejects(String),
    /// `/echo`: 200 with the request's body.
    Echo,
    /// `/foreign`: 500 with a body in UTF-8 whose characters many encodings lack.
    Foreign,
    /// `/nul`: 500 with a body that is neither UTF-8 nor free of NUL.
    Nul,
    /// `/not-http/status`, `/not-http/header`, `/not-http/length`: an answer that no HTTP client
    /// should accept.
    NotHttp(&'static str),
    /// `/many-headers/1000`: 200 with this many headers.
    ManyHeaders(usize),
    /// `/long-header/1048576`: 200 with a header of this many bytes.
    LongHeader(usize),
    /// `/interim/3`: this many interim answers (100 first, then 103), then 200.
    Interim(usize),
    /// `/handshake/ok` and the like: the answer to the CloudEvents OPTIONS request. POSTs get 200.
    Handshake(Handshake),
}

/// An answer to `OPTIONS` with `WebHook-Request-Origin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// `ok`: the origin is echoed, any rate is allowed.
    Echo,
    /// `any`: every origin is allowed, 120 requests a minute.
    Any,
    /// `wrong`: another origin is allowed.
    Wrong,
    /// `absent`: 200 without any of the headers.
    Absent,
    /// `refused`: 403.
    Refused,
}

impl Behaviour {
    /// Reads the behaviour from a path. The rest of the path is free, to distinguish subscriptions.
    ///
    /// # Panics
    /// If the path names no behaviour, because the test is wrong.
    pub fn of(path: &str) -> Self {
        let (path_only, query) = path.split_once('?').unwrap_or((path, ""));
        let mut segments = path_only.trim_start_matches('/').split('/');
        let name = segments.next().unwrap_or_default();
        let argument = segments.next();
        let number = || -> u64 {
            argument
                .and_then(|text| text.parse().ok())
                .unwrap_or_else(|| panic!("{path}: a number must follow"))
        };
        let status_or = |text: Option<&str>, default| text.and_then(|t| t.parse().ok()).unwrap_or(default);
        let parameter = |name: &str| -> String {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            let found = pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
            found.unwrap_or_else(|| panic!("{path}: ?{name}= must follow"))
        };
        match name {
            "ok" => Self::Ok,
            "status" => Self::Status(u16::try_from(number()).expect("a status")),
            "slow" => Self::Slow(Duration::from_millis(number())),
            "flaky" => Self::Flaky(u32::try_from(number()).expect("a count")),
            "drip" => Self::Drip,
            "hang" => Self::Hang,
            "hold" => Self::Hold,
            "reset" => Self::Reset,
            "close" => Self::Close,
            "close-after" => Self::CloseAfter,
            "half-headers" => Self::HalfHeaders,
            "cut" => Self::Cut,
            "huge" => Self::Huge(number(), status_or(segments.next(), 200)),
            "endless" => Self::Endless,
            "gzip-bomb" => Self::GzipBomb,
            "gone" => Self::Gone,
            "redirect" => Self::Redirect(status_or(argument, 302), parameter("to")),
            "retry-after" => Self::RetryAfter(status_or(argument, 429), parameter("v")),
            "limit" => Self::Limit(number() as usize),
            "rejects" => Self::Rejects(argument.unwrap_or_default().to_owned()),
            "echo" => Self::Echo,
            "foreign" => Self::Foreign,
            "nul" => Self::Nul,
            "not-http" => Self::NotHttp(not_http(argument.unwrap_or_default())),
            "many-headers" => Self::ManyHeaders(number() as usize),
            "long-header" => Self::LongHeader(number() as usize),
            "interim" => Self::Interim(number() as usize),
            "handshake" => Self::Handshake(Handshake::of(argument.unwrap_or_default())),
            _ => panic!("{path}: the receiver knows no such behaviour"),
        }
    }

    /// Returns the status of the answer to the `attempt`th request of an event with this body, or
    /// `None` if it gets no whole answer.
    pub fn status(&self, attempt: u32, body: &[u8]) -> Option<u16> {
        match self {
            Self::Limit(bytes) if body.len() > *bytes => Some(413),
            Self::Rejects(text) if body.windows(text.len().max(1)).any(|part| part == text.as_bytes()) => {
                Some(422)
            }
            Self::Flaky(failures) if attempt <= *failures => Some(500),
            Self::Status(status)
            | Self::Huge(_, status)
            | Self::Redirect(status, _)
            | Self::RetryAfter(status, _) => Some(*status),
            Self::Gone => Some(410),
            Self::Foreign | Self::Nul | Self::GzipBomb | Self::Endless => Some(500),
            Self::Hang | Self::Reset | Self::Close | Self::HalfHeaders | Self::NotHttp(_) => None,
            Self::Ok
            | Self::Slow(_)
            | Self::Flaky(_)
            | Self::Drip
            | Self::Hold
            | Self::CloseAfter
            | Self::Cut
            | Self::Limit(_)
            | Self::Rejects(_)
            | Self::Echo
            | Self::ManyHeaders(_)
            | Self::LongHeader(_)
            | Self::Interim(_)
            | Self::Handshake(_) => Some(200),
        }
    }
}

impl Handshake {
    fn of(name: &str) -> Self {
        match name {
            "ok" => Self::Echo,
            "any" => Self::Any,
            "wrong" => Self::Wrong,
            "absent" => Self::Absent,
            "refused" => Self::Refused,
            _ => panic!("/handshake/{name}: the receiver knows no such handshake"),
        }
    }
}

fn not_http(kind: &str) -> &'static str {
    match kind {
        "status" => "HTTP/1.1 OK\r\n\r\n",
        "header" => "HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        "length" => "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
        "ssh" => "SSH-2.0-OpenSSH_9.2p1\r\n",
        _ => panic!("/not-http/{kind}: the receiver knows no such nonsense"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_names_the_behaviour() {
        assert_eq!(Behaviour::of("/ok/a"), Behaviour::Ok);
        assert_eq!(Behaviour::of("/status/503/x"), Behaviour::Status(503));
        assert_eq!(Behaviour::of("/flaky/3"), Behaviour::Flaky(3));
        assert_eq!(
            Behaviour::of("/redirect?to=http://h/ok"),
            Behaviour::Redirect(302, "http://h/ok".to_owned())
        );
        assert_eq!(Behaviour::of("/redirect/308?to=/x"), Behaviour::Redirect(308, "/x".to_owned()));
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let path = "/retry-after/503?v=Sun,%2006%20Nov%201994%2008:49:37%20GMT";
        assert_eq!(Behaviour::of(path), Behaviour::RetryAfter(503, date.to_owned()));
        assert_eq!(Behaviour::of("/huge/7"), Behaviour::Huge(7, 200));
        assert_eq!(Behaviour::of("/handshake/wrong/a"), Behaviour::Handshake(Handshake::Wrong));
    }

    #[test]
    fn a_flaky_one_recovers() {
        let statuses = [1, 2, 3].map(|attempt| Behaviour::Flaky(2).status(attempt, b""));
        assert_eq!(statuses, [Some(500), Some(500), Some(200)]);
    }
}
