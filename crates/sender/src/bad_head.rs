//! Reads the head of a response that breaks the rules for headers. Pure.
//!
//! The status line says whether the receiver has taken the event. A mistake in a header after it
//! must not cause the same event to be delivered again and again.

use crate::answer::text;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING},
};

/// Maximum number of header lines that hyper accepts.
const HEADERS_MAX: usize = 100;
/// Maximum length of a header's name in a message.
const NAME_BYTES_MAX: usize = 60;

/// Returns the status and the valid headers of a head, and what is wrong with it. Returns `None` if
/// the status line itself is not valid.
pub fn read(head: &[u8]) -> Option<(Response<()>, String)> {
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let status = status(lines.next()?)?;
    let mut response = Response::new(());
    *response.status_mut() = status;
    let (mut bad, mut count) = (None, 0);
    for line in lines.take_while(|line| !line.is_empty()) {
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            // The rest of a folded value.
            continue;
        }
        count += 1;
        let (name, value) = split(line);
        let header = HeaderName::from_bytes(name).ok().zip(HeaderValue::from_bytes(value).ok());
        if header.as_ref().is_none_or(|(name, value)| is_bad_framing(name, value, &response)) {
            bad = bad.or(Some(name));
        }
        response.headers_mut().extend(header);
    }
    let why = match bad {
        _ if count > HEADERS_MAX => format!("the answer has more than {HEADERS_MAX} headers"),
        Some(name) => format!("the header `{}` of the answer is not valid", text(name, NAME_BYTES_MAX)),
        None => "the headers of the answer are not valid or too large".to_owned(),
    };
    Some((response, why))
}

fn status(line: &[u8]) -> Option<StatusCode> {
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let (digits, rest) = rest.split_at_checked(3)?;
    let status = StatusCode::from_bytes(digits).ok()?;
    // An interim response is not the receiver's word about the event.
    (matches!(rest.first(), None | Some(b' ')) && !status.is_informational()).then_some(status)
}

fn split(line: &[u8]) -> (&[u8], &[u8]) {
    let colon = line.iter().position(|byte| *byte == b':');
    let (name, value) = colon.map_or((line, &b""[..]), |colon| (&line[..colon], &line[colon + 1..]));
    (name.trim_ascii(), value.trim_ascii())
}

/// Reports whether a header contradicts itself about the length of the body (RFC 9112, 6.3).
fn is_bad_framing(name: &HeaderName, value: &HeaderValue, before: &Response<()>) -> bool {
    let is_number = || value.as_bytes().iter().all(u8::is_ascii_digit) && !value.is_empty();
    let differs = || before.headers().get(CONTENT_LENGTH).is_some_and(|first| first != value);
    match *name {
        CONTENT_LENGTH => !is_number() || differs(),
        TRANSFER_ENCODING => !value.as_bytes().to_ascii_lowercase().ends_with(b"chunked"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(head: &str) -> Option<(u16, String)> {
        read(head.as_bytes()).map(|(response, why)| (response.status().as_u16(), why))
    }

    #[test]
    fn the_status_counts_and_the_bad_header_is_named() {
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101));
        for (head, status, why) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 200, "`content-length`"),
            ("HTTP/1.1 202 OK\r\nContent-Length: -1\r\n\r\n", 202, "`Content-Length`"),
            ("HTTP/1.0 500\r\nx y: 1\r\n\r\n", 500, "`x y`"),
            ("HTTP/1.1 200 OK\r\nx: a\x01b\r\n\r\n", 200, "`x`"),
            ("HTTP/1.1 200 OK\ntransfer-encoding: gzip\n\n", 200, "`transfer-encoding`"),
            (&many, 200, "more than 100 headers"),
            ("HTTP/1.1 200 OK\r\na: b", 200, "too large"),
        ] {
            let (found, reason) = found(head).unwrap();
            assert!(found == status && reason.contains(why), "{head:?}: {found} {reason}");
        }
        let (response, _) = read(b"HTTP/1.1 503 X\r\nRetry-After: 7\r\nx\x00: 1\r\n\r\n").unwrap();
        assert_eq!(response.headers()["retry-after"], "7");
    }

    #[test]
    fn without_a_status_line_nothing_is_known() {
        for head in [
            "",
            "HTTP/1.1 20 OK",
            "HTTP/1.1 2000 OK",
            "HTTP/2 200 OK",
            "SSH-2.0",
            "HTTP/1.1 100 Continue\r\n\r\n",
        ] {
            assert_eq!(found(head), None, "{head:?}");
        }
    }
}
