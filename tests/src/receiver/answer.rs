//! The answers, byte by byte: what each [`Behaviour`] writes to the connection.

use super::{
    behaviour::{Behaviour, Handshake},
    wire::{Connection, Stream},
};
use bytes::Bytes;
use std::{
    fmt::Write as _,
    io::Result,
    process::{Command, Stdio},
    sync::OnceLock,
    time::{Duration, SystemTime},
};
use tokio::io::AsyncWriteExt as _;

/// Answers a POST by `behaviour`, with its `status` for this attempt. Returns false if the
/// connection ends.
pub async fn write<S: Stream>(
    connection: &mut Connection<S>,
    behaviour: &Behaviour,
    status: Option<u16>,
    request_body: &Bytes,
) -> Result<bool> {
    let status = status.unwrap_or_default();
    match behaviour {
        Behaviour::Ok | Behaviour::Slow(_) | Behaviour::Hold | Behaviour::Gone | Behaviour::Handshake(_) => {
            connection.respond(status, b"").await?;
        }
        Behaviour::Status(_) | Behaviour::Limit(_) | Behaviour::Rejects(_) => {
            connection.respond(status, b"as you wish").await?
        }
        Behaviour::Flaky(_) => connection.respond(status, if status == 500 { b"flaky" } else { b"" }).await?,
        Behaviour::Echo => connection.respond(status, request_body).await?,
        Behaviour::Foreign => connection.respond(status, "zażółć €".as_bytes()).await?,
        Behaviour::Nul => connection.respond(status, b"a\0b\xff\xfe").await?,
        Behaviour::Redirect(_, to) => connection.respond_with(status, &[("location", to)], b"").await?,
        Behaviour::RetryAfter(_, value) => {
            connection.respond_with(status, &[("retry-after", &retry_after(value))], b"").await?;
        }
        Behaviour::GzipBomb => {
            connection.respond_with(status, &[("content-encoding", "gzip")], gzip_bomb()).await?;
        }
        Behaviour::ManyHeaders(count) => {
            let headers = vec![("x-many", "y"); *count];
            connection.respond_with(status, &headers, b"").await?;
        }
        Behaviour::LongHeader(bytes) => {
            connection.respond_with(status, &[("x-long", &"y".repeat(*bytes))], b"").await?;
        }
        Behaviour::Interim(count) => {
            let mut interim = "HTTP/1.1 100 Continue\r\n\r\n".to_owned();
            for n in 1..*count {
                let _ = write!(interim, "HTTP/1.1 103 Early Hints\r\nlink: </{n}>\r\n\r\n");
            }
            connection.stream.write_all(interim.as_bytes()).await?;
            connection.respond(status, b"").await?;
        }
        Behaviour::CloseAfter => {
            connection.respond(status, b"").await?;
            return Ok(false);
        }
        Behaviour::Huge(bytes, _) => connection.respond_with_zeros(status, *bytes).await?,
        _ => return misbehave(connection, behaviour).await,
    }
    Ok(true)
}

/// Sends an incomplete or invalid answer. Returns false if the connection ends.
async fn misbehave<S: Stream>(connection: &mut Connection<S>, behaviour: &Behaviour) -> Result<bool> {
    match behaviour {
        Behaviour::Drip => {
            connection.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await?;
            loop {
                connection.stream.write_all(b".").await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        Behaviour::Endless => {
            connection.stream.write_all(b"HTTP/1.1 500 X\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            let chunk = format!("10000\r\n{}\r\n", "z".repeat(0x10000));
            loop {
                connection.stream.write_all(chunk.as_bytes()).await?;
            }
        }
        Behaviour::NotHttp(answer) => connection.stream.write_all(answer.as_bytes()).await?,
        Behaviour::Hang => connection.until_closed().await,
        Behaviour::Reset => connection.stream.reset_on_close()?,
        Behaviour::HalfHeaders => connection.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await?,
        Behaviour::Cut => {
            connection.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await?;
        }
        _ => {}
    }
    Ok(false)
}

/// Answers an OPTIONS request from `origin`.
pub async fn handshake<S: Stream>(
    connection: &mut Connection<S>,
    behaviour: &Behaviour,
    origin: &str,
) -> Result<()> {
    let headers: &[(&str, &str)] = match behaviour {
        Behaviour::Handshake(Handshake::Echo) => {
            &[("WebHook-Allowed-Origin", origin), ("WebHook-Allowed-Rate", "*"), ("Allow", "POST")]
        }
        Behaviour::Handshake(Handshake::Any) => {
            &[("WebHook-Allowed-Origin", "*"), ("WebHook-Allowed-Rate", "120"), ("Allow", "OPTIONS, POST")]
        }
        Behaviour::Handshake(Handshake::Wrong) => {
            &[("WebHook-Allowed-Origin", "other.example"), ("WebHook-Allowed-Rate", "*"), ("Allow", "POST")]
        }
        Behaviour::Handshake(Handshake::Absent) => &[],
        Behaviour::Handshake(Handshake::Refused) => return connection.respond(403, b"").await,
        // A server without support for the handshake.
        _ => return connection.respond(405, b"").await,
    };
    connection.respond_with(200, headers, b"").await
}

/// Returns the header's value: for `in:5` the date in five seconds, otherwise the text itself.
fn retry_after(value: &str) -> String {
    let Some(seconds) = value.strip_prefix("in:").and_then(|text| text.parse::<i64>().ok()) else {
        return value.to_owned();
    };
    let by = Duration::from_secs(seconds.unsigned_abs());
    let at = if seconds < 0 { SystemTime::now() - by } else { SystemTime::now() + by };
    httpdate::fmt_http_date(at)
}

/// Returns 128 MiB of zeros, compressed by gzip to about 128 KiB.
fn gzip_bomb() -> &'static [u8] {
    static BOMB: OnceLock<Vec<u8>> = OnceLock::new();
    BOMB.get_or_init(|| {
        let zeros = std::fs::File::open("/dev/zero").expect("/dev/zero");
        let mut head = Command::new("head");
        head.args(["-c", "134217728"]).stdin(zeros).stdout(Stdio::piped());
        let mut head = head.spawn().expect("head can be started");
        let mut gzip = Command::new("gzip");
        gzip.arg("-1").stdin(head.stdout.take().expect("it is piped"));
        let bomb = gzip.output().expect("gzip can be started").stdout;
        head.wait().expect("head ends");
        assert!(bomb.len() > 100_000, "a bomb of {} bytes", bomb.len());
        bomb
    })
}
