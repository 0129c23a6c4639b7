//! How a receiver treats a request: named by the first segments of the path.

use std::time::Duration;

/// What the receiver does with a request once it has read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// `/ok`: 200 at once.
    Ok,
    /// `/status/503`: that status.
    Status(u16),
    /// `/slow/1500`: 200 after so many milliseconds.
    Slow(Duration),
    /// `/flaky/3`: the first three attempts of every `webhook-id` get 500, later ones 200.
    Flaky(u32),
    /// `/drip`: the head at once, then a byte of the body per second for ever.
    Drip,
    /// `/hang`: never an answer.
    Hang,
    /// `/hold`: an answer only after [`Receiver::release`](super::Receiver::release).
    Hold,
    /// `/reset`: the connection is torn down with RST instead of an answer.
    Reset,
    /// `/close`: the connection is closed instead of an answer.
    Close,
    /// `/half-headers`: the connection is closed in the middle of the answer's head.
    HalfHeaders,
    /// `/huge/104857600`: 200 with so many bytes of body.
    Huge(u64),
    /// `/gone`: 410.
    Gone,
    /// `/redirect/http://…`: 302 to there.
    Redirect(String),
    /// `/echo`: 200 with the request's body.
    Echo,
    /// `/nul`: 500 with a body that is neither UTF-8 nor free of NUL.
    Nul,
}

impl Behaviour {
    /// Reads the behaviour from a path; what follows it is free, to tell subscriptions apart.
    ///
    /// # Panics
    /// If the path names none: the test is wrong.
    pub fn of(path: &str) -> Self {
        let mut segments = path.trim_start_matches('/').split('/');
        let name = segments.next().unwrap_or_default();
        let mut number = || -> u64 {
            let argument = segments.next().and_then(|text| text.parse().ok());
            argument.unwrap_or_else(|| panic!("{path}: a number must follow"))
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
            "half-headers" => Self::HalfHeaders,
            "huge" => Self::Huge(number()),
            "gone" => Self::Gone,
            "redirect" => Self::Redirect(path.trim_start_matches("/redirect/").to_owned()),
            "echo" => Self::Echo,
            "nul" => Self::Nul,
            _ => panic!("{path}: the receiver knows no such behaviour"),
        }
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
        assert_eq!(Behaviour::of("/redirect/http://h/ok"), Behaviour::Redirect("http://h/ok".to_owned()));
    }
}
