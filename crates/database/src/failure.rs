//! Errors of connections that fail for our reasons: a server has not answered in time, or is a
//! former primary. tokio-postgres has a deadline for the TCP connection alone, and no public way to
//! make one of its errors. So the error comes from a stream that fails.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{Config, Error, NoTls};

/// Returns the error of a server that has not answered in time.
pub async fn expired() -> Error {
    failure(io::ErrorKind::TimedOut, "the server did not answer in time".to_owned()).await
}

/// Returns an error with this kind and text.
pub async fn failure(kind: io::ErrorKind, why: String) -> Error {
    match Config::new().user("guest").connect_raw(Failing { kind, why }, NoTls).await {
        Err(error) => error,
        Ok(_) => unreachable!("no server answers through a stream that always fails"),
    }
}

struct Failing {
    kind: io::ErrorKind,
    why: String,
}

impl Failing {
    fn fail<T>(&self) -> Poll<io::Result<T>> {
        Poll::Ready(Err(io::Error::new(self.kind, self.why.clone())))
    }
}

impl AsyncRead for Failing {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.fail()
    }
}

impl AsyncWrite for Failing {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        self.fail()
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fail()
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fail()
    }
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn it_says_so_and_passes() {
        let error = super::expired().await;
        assert!(super::super::passes(&error));
        assert!(super::super::chain(&error).contains("not answer in time"), "{error:?}");
    }
}
