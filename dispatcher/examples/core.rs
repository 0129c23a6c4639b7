//! The dispatcher with settings from the environment alone: for measuring it without a command line.
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use webhookd::{app, delivery::outcome::{Class, Outcome}, sender::{Request, Sender, address_policy::AddressPolicy, http::HttpSender}};

struct Null;
impl Sender for Null {
    async fn send(&self, request: Request) -> Outcome {
        std::hint::black_box(request.signers[0].sign(&request.id, 1, &request.body));
        tokio::task::yield_now().await;
        let us = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64;
        Outcome { class: Class::Succeeded, status: Some(200), started_at_us: us, duration: Duration::from_micros(100), error: None, response: None, retry_after: None }
    }
}

fn main() {
    let filter = std::env::var("LEVEL").unwrap_or("info".into());
    let level: tracing::Level = filter.parse().unwrap();
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let r = runtime.block_on(async {
        let mut settings = app::Settings::new(std::env::var("DATABASE_URL").unwrap().parse().unwrap());
        if std::env::var("NOSAFETY").is_ok() { settings.safety_poll = None; }
        let stop = CancellationToken::new();
        let s = stop.clone();
        tokio::spawn(async move {
            let mut t = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
            t.recv().await;
            s.cancel();
        });
        if std::env::var("NULL").is_ok() {
            app::run(settings, Null, stop).await
        } else {
            let policy = AddressPolicy { allow_nets: vec!["127.0.0.0/8".parse().unwrap()], allow_http: true };
            app::run(settings, HttpSender::new(policy).unwrap(), stop).await
        }
    });
    let _ = Arc::new(0);
    if let Err(e) = r { eprintln!("error: {}", webhookd::postgres::chain(&e)); std::process::exit(1) }
}
