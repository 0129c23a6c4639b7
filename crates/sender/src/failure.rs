//! Classifies and describes attempts that received no status.
//!
//! All texts are our own. Texts of the resolver, the kernel, or the TLS library may contain
//! addresses and names that readers of `webhook.attempt` must not learn. The module is pure; it
//! only inspects the errors of other libraries.

use crate::address_policy::Refusal;
use delivery::outcome::Class;
use rustix::io::Errno;
use rustls::{CertificateError, OtherError};
use signature::NoKey;
use std::{error::Error as StdError, io, time::Duration};
use thiserror::Error;

/// The reason why an attempt received no status.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum Failure {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("{0}; create one with webhook_rotate_secret()")]
    NoKey(#[from] NoKey),
    /// A fault of this machine or this daemon. The receiver was not reached and is not charged.
    #[error("{0}")]
    Ours(&'static str),
    /// This machine or this daemon lacks something for a moment. The receiver was not reached and
    /// is not charged, and the attempt counts as none.
    #[error("{0}")]
    Shortage(&'static str),
    #[error("the host name could not be resolved")]
    Dns,
    #[error("the host name was not resolved within {} s", .0.as_secs_f32())]
    DnsTimeout(Duration),
    #[error("{0}")]
    Connect(&'static str),
    #[error("no connection within {} s", .0.as_secs_f32())]
    ConnectTimeout(Duration),
    #[error("{0}")]
    Tls(&'static str),
    #[error("{0}")]
    Protocol(&'static str),
    #[error("no answer within {} s", .0.as_secs_f32())]
    Deadline(Duration),
}

impl Failure {
    pub fn class(&self) -> Class {
        match self {
            Self::Refused(_) | Self::NoKey(_) | Self::Ours(_) | Self::Shortage(_) => Class::Refused,
            Self::Dns | Self::DnsTimeout(_) => Class::Dns,
            Self::Connect(_) | Self::ConnectTimeout(_) => Class::Connect,
            Self::Tls(_) => Class::Tls,
            Self::Protocol(_) => Class::Protocol,
            Self::Deadline(_) => Class::Timeout,
        }
    }

    /// Classifies an error of socket(2) or of the resolver. Returns `None` if this machine is not
    /// at fault.
    pub fn of_this_machine(error: &io::Error) -> Option<Self> {
        Some(Self::Shortage(match Errno::from_io_error(error)? {
            Errno::MFILE | Errno::NFILE => "webhookd has no free file descriptor",
            Errno::ADDRNOTAVAIL => "webhookd has no free local port for this host",
            Errno::NOBUFS | Errno::NOMEM => "webhookd's machine has no free memory for a connection",
            Errno::PERM => {
                return Some(Self::Ours("webhookd's machine does not permit a connection to the host"));
            }
            _ => return None,
        }))
    }

    /// Classifies an error of connect(2).
    pub fn of_connect(error: &io::Error) -> Self {
        if let Some(ours) = Self::of_this_machine(error) {
            return ours;
        }
        Self::Connect(match Errno::from_io_error(error) {
            Some(Errno::CONNREFUSED) => "the connection was refused",
            Some(Errno::CONNRESET | Errno::CONNABORTED) => "the connection was reset during connect",
            Some(Errno::TIMEDOUT) => "the host did not answer",
            Some(Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::NETDOWN) => "there is no route to the host",
            // ICMPv6's "administratively prohibited" is reported as this error.
            Some(Errno::ACCESS) => "a firewall blocks the connection",
            _ => "the connection failed",
        })
    }

    /// Chooses between the failures of two addresses of a host. A failure that describes the
    /// receiver takes precedence over one that describes this machine, which may have no route for
    /// one of the address families. `Dns` means that no address was tried yet.
    pub fn or_more_telling(self, next: Self) -> Self {
        let is_first = matches!(self, Self::Dns);
        if is_first || next.class() != Class::Refused { next } else { self }
    }

    /// Classifies an error of the TLS handshake.
    pub fn of_handshake(error: &io::Error) -> Self {
        Self::Tls(match find::<rustls::Error>(error) {
            Some(tls) => describe_tls(tls),
            None => "the connection was closed during the TLS handshake",
        })
    }

    /// Classifies an error between the request's first byte and the response's head.
    pub fn of_exchange(error: &hyper::Error) -> Self {
        if let Some(tls) = find::<rustls::Error>(error) {
            return Self::Tls(describe_tls(tls));
        }
        if let Some(http2) = find::<h2::Error>(error) {
            return Self::Protocol(describe_http2(http2));
        }
        Self::Protocol(if error.is_parse_too_large() {
            "the headers of the answer are too large"
        } else if error.is_parse() {
            "the answer is not HTTP/1.1"
        } else if is_reset(error) {
            "the connection was reset before the answer was complete"
        } else {
            "the connection was closed before the answer was complete"
        })
    }
}

impl Failure {
    /// Returns the reason that the receiver gave for the end of a stream or connection of HTTP/2.
    pub fn http2_reason(error: &hyper::Error) -> Option<h2::Reason> {
        find::<h2::Error>(error).filter(|error| error.is_remote()).and_then(h2::Error::reason)
    }

    /// Reports whether the receiver has not processed a request over HTTP/2 (RFC 9113, 8.7). h2
    /// reports GOAWAY only for streams above the last one that the receiver has processed.
    pub fn is_unprocessed(error: &hyper::Error) -> bool {
        find::<h2::Error>(error).is_some_and(|error| {
            error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
        })
    }
}

fn describe_http2(error: &h2::Error) -> &'static str {
    if error.is_io() {
        "the connection was closed before the answer was complete"
    } else if error.is_remote() {
        "the receiver ended the HTTP/2 stream with an error"
    } else {
        "the answer is not HTTP/2"
    }
}

/// Reports whether the peer or the network ended the connection, as opposed to an invalid response.
pub fn is_disconnect(error: &hyper::Error) -> bool {
    let is_http2 = find::<h2::Error>(error).is_some_and(h2::Error::is_io);
    error.is_incomplete_message() || error.is_canceled() || error.is_closed() || is_reset(error) || is_http2
}

fn is_reset(error: &hyper::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    find::<io::Error>(error).is_some_and(|io| {
        matches!(io.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof)
    })
}

/// Returns the first error of a type in the chain of causes, including errors wrapped in an
/// `io::Error`.
fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn describe_tls(error: &rustls::Error) -> &'static str {
    use rustls::Error as E;
    match error {
        E::InvalidCertificate(why) => describe_certificate(why),
        E::NoCertificatesPresented => "the receiver sent no certificate",
        E::InvalidMessage(_) => "the receiver does not speak TLS on this port",
        E::PeerIncompatible(_) => "no common TLS version or cipher (TLS 1.2 or 1.3 is required)",
        E::AlertReceived(_) => "the receiver ended the TLS handshake with an alert",
        E::NoApplicationProtocol => "the receiver offers neither HTTP/2 nor HTTP/1.1",
        _ => "the TLS handshake failed",
    }
}

fn describe_certificate(error: &CertificateError) -> &'static str {
    use CertificateError as C;
    match error {
        C::Expired | C::ExpiredContext { .. } => "the certificate has expired",
        C::NotValidYet | C::NotValidYetContext { .. } => "the certificate is not valid yet",
        C::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            "the certificate names no host (it has no subjectAltName; the common name does not count)"
        }
        C::NotValidForName | C::NotValidForNameContext { .. } => "the certificate is for another host name",
        C::UnknownIssuer => "webhookd does not trust the certificate's issuer",
        C::Revoked => "the certificate has been revoked",
        C::BadSignature => {
            "no trusted authority has signed the certificate; one has its issuer's name and another key"
        }
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => {
            "the certificate is not for servers (extendedKeyUsage without serverAuth)"
        }
        C::BadEncoding => "the certificate is not encoded correctly",
        C::UnsupportedSignatureAlgorithmContext { .. }
        | C::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "the certificate is signed by a method that is not supported, such as SHA-1"
        }
        C::Other(OtherError(cause)) => {
            cause.downcast_ref().map_or("the certificate is not valid", describe_webpki)
        }
        _ => "the certificate is not valid",
    }
}

/// Describes what rustls does not: mistakes in certificates that people make themselves.
/// docs/OPERATIONS.md has commands that make valid ones.
fn describe_webpki(error: &webpki::Error) -> &'static str {
    use webpki::Error as E;
    match error {
        E::CaUsedAsEndEntity => {
            "the receiver shows the certificate of an authority (CA:TRUE), as `openssl req -x509` makes it; \
             make one with the extension basicConstraints=CA:FALSE"
        }
        E::EndEntityUsedAsCa => "the certificate's issuer is not an authority (CA:TRUE)",
        E::UnsupportedCertVersion => {
            "the certificate has version 1; make one of version 3, with the extension subjectAltName"
        }
        E::UnsupportedCriticalExtension => "the certificate has a critical extension that is not supported",
        E::PathLenConstraintViolated => {
            "the certificate's chain is longer than one of its authorities allows"
        }
        E::NameConstraintViolation => "the certificate's authority may not sign for this host",
        _ => "the certificate is not valid",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use delivery::outcome::Verdict;

    #[test]
    fn what_this_machine_lacks_is_not_charged_to_the_receiver() {
        let verdict = |errno: Errno| Failure::of_connect(&errno.into()).class().verdict();
        for errno in
            [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM, Errno::PERM]
        {
            assert_eq!(verdict(errno), Verdict::Ours, "{errno:?}");
        }
        use Errno as E;
        for errno in [E::CONNREFUSED, E::TIMEDOUT, E::HOSTUNREACH, E::NETUNREACH, E::ACCESS, E::IO] {
            assert_eq!(verdict(errno), Verdict::Retry, "{errno:?}");
        }
        let (theirs, ours) = (E::CONNREFUSED.into(), E::ADDRNOTAVAIL.into());
        let (theirs, ours) = (|| Failure::of_connect(&theirs), || Failure::of_connect(&ours));
        for (last, failure) in [(theirs(), ours()), (ours(), theirs()), (Failure::Dns, theirs())] {
            assert_eq!(last.or_more_telling(failure).class().verdict(), Verdict::Retry);
        }
        assert_eq!(Failure::Dns.or_more_telling(ours()).class().verdict(), Verdict::Ours);
        assert_eq!(Failure::NoKey(NoKey(signature::Profile::Standard)).class().verdict(), Verdict::Ours);
        assert_eq!(Failure::Ours("").class().verdict(), Verdict::Ours);
    }
}
