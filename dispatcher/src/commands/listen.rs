//! `webhookd listen`: a receiver for experiments. Verifies each webhook and prints it. Stores
//! nothing.

mod print;
mod summary;

use crate::{
    cli::Listen,
    commands::{Error, exit},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderMap, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use print::{Printer, Verdict, Webhook};
use signature::{Message, Verifier};
use std::{
    convert::Infallible,
    io,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Maximum size of a body, in bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Time limit for the head of a request, and for its body.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of connections.
const CONNECTIONS_MAX: usize = 4096;
/// How long answers in progress may take at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Receives until `--count` is reached, or until `shutdown`. The exit code is 1 if a signature was
/// not valid.
///
/// # Errors
/// An invalid secret, or an address on which the command cannot listen.
pub async fn run(flags: Listen, shutdown: CancellationToken) -> Result<ExitCode, Error> {
    let secrets =
        flags.secret.iter().map(|secret| Verifier::parse(secret.trim())).collect::<Result<Vec<_>, _>>()?;
    let bind_error = |cause| Error::Bind { address: flags.bind, cause };
    let listener = TcpListener::bind(flags.bind).await.map_err(bind_error)?;
    let address = listener.local_addr().map_err(bind_error)?;
    let printer = Printer::new(flags.json, flags.quiet);
    if printer.greet(address, secrets.is_empty()).is_err() {
        return Ok(exit(true));
    }
    let context = Arc::new(ListenContext {
        secrets,
        status: StatusCode::from_u16(flags.status).unwrap_or(StatusCode::OK),
        counts: Mutex::new(RequestCounts { printer, left: flags.count, all_valid: true }),
        done: shutdown.child_token(),
    });
    accept(listener, &context).await;
    let all_valid = context.counts().all_valid;
    Ok(exit(all_valid))
}

/// Serves connections until the count is reached, then waits for the answers in progress.
async fn accept(listener: TcpListener, context: &Arc<ListenContext>) {
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = context.done.cancelled() => break,
            accepted = async {
                let place = room.clone().acquire_owned().await;
                (place, listener.accept().await)
            } => accepted,
        };
        let (place, stream) = match accepted {
            (place, Ok((stream, _))) => (place, stream),
            (_, Err(error)) => {
                // Probably no file descriptors are left. Connections that end release some.
                tracing::warn!(%error, "listen.accept");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let context = context.clone();
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(READ_TIMEOUT)
            .max_buf_size(64 * 1024)
            .serve_connection(
                TokioIo::new(stream),
                service_fn(move |request| {
                    let context = context.clone();
                    async move { Ok::<_, Infallible>(context.answer(request).await) }
                }),
            );
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "listen.connection");
            }
            drop(place);
        });
    }
    let _ = timeout(DRAIN_TIMEOUT, graceful.shutdown()).await;
}

/// Verifies and prints webhooks.
struct ListenContext {
    secrets: Vec<Verifier>,
    status: StatusCode,
    counts: Mutex<RequestCounts>,
    done: CancellationToken,
}

struct RequestCounts {
    printer: Printer,
    /// Number of webhooks until the end. `None` for no end.
    left: Option<u64>,
    all_valid: bool,
}

impl ListenContext {
    fn counts(&self) -> std::sync::MutexGuard<'_, RequestCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() == Method::OPTIONS {
            return allow(request.headers());
        }
        if request.method() != Method::POST {
            return say(StatusCode::METHOD_NOT_ALLOWED, "send a POST\n");
        }
        let (head, body) = request.into_parts();
        let body = match timeout(READ_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                return say(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 MiB\n");
            }
            Ok(Err(_)) => return say(StatusCode::BAD_REQUEST, "the body ended early\n"),
            Err(_) => return say(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time\n"),
        };
        let received_at = SystemTime::now();
        let verdict = self.verdict(&head.headers, &body, received_at);
        let status = match verdict {
            Verdict::Invalid(_) => StatusCode::UNAUTHORIZED,
            Verdict::Valid | Verdict::Unchecked => self.status,
        };
        let webhook =
            Webhook { received_at, headers: &head.headers, body: &body, verdict, status: status.as_u16() };
        self.note(&webhook);
        match webhook.verdict {
            Verdict::Invalid(why) => say(status, why),
            Verdict::Valid | Verdict::Unchecked => say(status, ""),
        }
    }

    /// Prints and counts a webhook. The command ends if standard output is closed.
    fn note(&self, webhook: &Webhook<'_>) {
        let mut counts = self.counts();
        if counts.left == Some(0) {
            return;
        }
        counts.all_valid &= !matches!(webhook.verdict, Verdict::Invalid(_));
        let printed = counts.printer.print(webhook);
        if let Some(left) = &mut counts.left {
            *left -= 1;
        }
        if printed.is_err() || counts.left == Some(0) {
            self.done.cancel();
        }
    }

    fn verdict(&self, headers: &HeaderMap, body: &[u8], now: SystemTime) -> Verdict {
        if self.secrets.is_empty() {
            return Verdict::Unchecked;
        }
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let (Some(id), Some(timestamp), Some(signature)) =
            (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"))
        else {
            return Verdict::Invalid("webhook-id, webhook-timestamp or webhook-signature is missing");
        };
        let Ok(timestamp) = timestamp.parse() else {
            return Verdict::Invalid("webhook-timestamp is not a number of seconds");
        };
        let now =
            i64::try_from(now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()).unwrap_or(i64::MAX);
        let mut why = signature::Rejected::Mismatch;
        for secret in &self.secrets {
            match secret.verify(&Message { id, timestamp, body }, signature, now) {
                Ok(()) => return Verdict::Valid,
                Err(rejected) => why = rejected,
            }
        }
        Verdict::Invalid(match why {
            signature::Rejected::TooOld => "the timestamp is more than 5 minutes old",
            signature::Rejected::TooNew => "the timestamp is more than 5 minutes ahead of this clock",
            signature::Rejected::Timestamp | signature::Rejected::Mismatch => "the signature does not match",
        })
    }
}

/// Answers the handshake of CloudEvents: every sender may send, at any rate.
fn allow(questions: &HeaderMap) -> Response<Full<Bytes>> {
    let mut response = say(StatusCode::OK, "");
    let answers = response.headers_mut();
    answers.insert(header::ALLOW, HeaderValue::from_static("POST"));
    if let Some(origin) = questions.get("webhook-request-origin") {
        answers.insert("webhook-allowed-origin", origin.clone());
        answers.insert("webhook-allowed-rate", HeaderValue::from_static("*"));
    }
    response
}

fn say(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}

/// An error means that standard output was closed.
type Printed = io::Result<()>;
