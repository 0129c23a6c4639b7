//! The error of a server that has not answered in time. tokio-postgres has a deadline for the TCP connection alone and no public
//! way to make an error of its own, so one is had as any other is: from a stream that fails.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{Config, Error, NoTls};

/// "error communicating with the server: … timed out".
pub async fn expired() -> Error {
    match Config::new().user("nobody").connect_raw(Expired, NoTls).await {
        Err(error) => error,
        Ok(_) => unreachable!("no server answers through a stream that always fails"),
    }
}

struct Expired;

fn timed_out<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the server has not answered in time")))
}

impl AsyncRead for Expired {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        timed_out()
    }
}

impl AsyncWrite for Expired {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        timed_out()
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        timed_out()
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        timed_out()
    }
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn it_says_so_and_passes() {
        let error = super::expired().await;
        assert!(super::super::passes(&error));
        assert!(super::super::chain(&error).contains("not answered in time"), "{error:?}");
    }
}
