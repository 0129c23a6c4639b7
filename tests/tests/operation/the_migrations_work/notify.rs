//! A trigger with NOTIFY, the process that listens, and their receiver.

use super::{application::post, receiver::Request};
use e2e::cluster::Database;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, NoTls};

pub const NOTIFY: &str = "
    create function tell_order() returns trigger language plpgsql as $$
    begin
        perform pg_notify('orders', json_build_object('op', tg_op, 'id', new.id, 'total', new.total)::text);
        return null;
    end $$;
    create trigger tell_order after insert or update on orders for each row execute function tell_order()";

/// Starts the process that turns each notification into a POST.
pub async fn listener(database: &Database, url: String) -> JoinHandle<()> {
    let (client, mut connection) =
        tokio_postgres::connect(&database.url(), NoTls).await.expect("it connects");
    let (sender, mut notes) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(note) = message {
                let _ = sender.send(note.payload().to_owned());
            }
        }
    });
    client.batch_execute("listen orders").await.expect("it listens");
    tokio::spawn(async move {
        while let Some(body) = notes.recv().await {
            post(&url, &[("content-type", "application/json")], body).await;
        }
        drop(client);
    })
}

pub fn notify_receiver(request: &Request) -> (String, i64) {
    let told = request.json();
    let (op, id) = (told["op"].as_str().expect("an operation"), told["id"].as_i64().expect("an id"));
    let total = if op == "INSERT" { "1.50" } else { "2.50" };
    assert_eq!(request.body, format!(r#"{{"op" : "{op}", "id" : {id}, "total" : {total}}}"#), "to the byte");
    assert_eq!(request.headers["content-type"], "application/json");
    (op.to_owned(), id)
}
