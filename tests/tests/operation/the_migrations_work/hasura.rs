//! A stand-in for Hasura, and a receiver that follows its documentation.

use super::{
    application::{COLUMNS, names, post},
    receiver::Request,
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio_postgres::Client;

/// Hasura's log, and the triggers of an event trigger `order_changed`.
pub const HASURA: &str = r#"
    create schema hdb_catalog;
    grant usage on schema hdb_catalog to shop_app;
    create table hdb_catalog.event_log (
        id text default gen_random_uuid() primary key, schema_name text not null, table_name text not null, trigger_name text not null,
        payload jsonb not null, delivered boolean not null default false, error boolean not null default false,
        tries integer not null default 0, created_at timestamp default now(), locked timestamptz, next_retry_at timestamp,
        archived boolean not null default false);
    grant insert on hdb_catalog.event_log to shop_app;
    create function hdb_catalog.tell(op text, old json, new json) returns void language sql as $$
        insert into hdb_catalog.event_log (schema_name, table_name, trigger_name, payload)
        values ('public', 'orders', 'order_changed', jsonb_build_object('op', op, 'data', json_build_object('old', old, 'new', new),
                'session_variables', nullif(current_setting('hasura.user', true), '')::json, 'trace_context', null)) $$;
    do $do$
    declare
        op text;
    begin
        foreach op in array '{INSERT,UPDATE,DELETE}'::text[] loop
            execute format('create function hdb_catalog.%I() returns trigger language plpgsql as $$ begin
                perform hdb_catalog.tell(tg_op, case when tg_op <> ''INSERT'' then row_to_json(old) end,
                                                case when tg_op <> ''DELETE'' then row_to_json(new) end);
                return null; end $$', 'notify_hasura_order_changed_' || op);
            execute format('create trigger %I after %s on public.orders for each row execute function hdb_catalog.%1$I()',
                           'notify_hasura_order_changed_' || op, op);
        end loop;
    end $do$;"#;

/// Runs the engine's loop: fetches events, locks them, sends them, and marks them.
pub async fn hasura(client: Client, url: String) {
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    loop {
        pace.tick().await;
        let fetched = client
            .query("update hdb_catalog.event_log set locked = now() where id in (
                        select id from hdb_catalog.event_log where not delivered and not error and not archived and locked is null limit 20)
                    returning id, json_build_object('event', payload, 'created_at', created_at, 'id', id,
                        'delivery_info', json_build_object('max_retries', 0, 'current_retry', tries),
                        'trigger', json_build_object('name', trigger_name),
                        'table', json_build_object('schema', schema_name, 'name', table_name))::text", &[])
            .await
            .expect("the log can be read");
        for row in fetched {
            let (id, body): (String, String) = (row.get(0), row.get(1));
            post(&url, &[("content-type", "application/json"), ("x-action-secret", "let-me-in")], body).await;
            let done = "update hdb_catalog.event_log set delivered = true, locked = null, tries = tries + 1 where id = $1";
            client.execute(done, &[&id]).await.expect("it can be marked");
        }
    }
}

/// Reads the payload of Hasura's documentation.
pub fn hasura_receiver(request: &Request) -> (String, i64) {
    assert_eq!(request.headers["x-action-secret"], "let-me-in");
    assert_eq!(request.headers["content-type"], "application/json");
    let payload = request.json();
    assert_eq!(names(&payload), ["created_at", "delivery_info", "event", "id", "table", "trigger"]);
    assert_eq!(payload["delivery_info"], json!({ "max_retries": 0, "current_retry": 0 }));
    assert_eq!(payload["trigger"], json!({ "name": "order_changed" }));
    assert_eq!(payload["table"], json!({ "schema": "public", "name": "orders" }));
    let id = payload["id"].as_str().expect("an id");
    assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "a UUID");
    assert!(payload["created_at"].as_str().is_some_and(|at| at.starts_with("20") && at.contains('T')));
    let event = &payload["event"];
    assert_eq!(names(event), ["data", "op", "session_variables", "trace_context"]);
    assert!(event["session_variables"].is_null() && event["trace_context"].is_null());
    let (new, old) = (&event["data"]["new"], &event["data"]["old"]);
    let total = |row: &Value| (names(row) == COLUMNS).then(|| row["total"].as_f64()).flatten();
    let (op, row) = match event["op"].as_str().expect("an operation") {
        "INSERT" => {
            assert_eq!((total(new), old.is_null()), (Some(1.5), true));
            ("INSERT", new)
        }
        "UPDATE" => {
            assert_eq!((total(new), total(old), &old["note"]), (Some(2.5), Some(1.5), &json!("a")));
            ("UPDATE", new)
        }
        "DELETE" => {
            assert_eq!((new.is_null(), total(old)), (true, Some(2.5)));
            ("DELETE", old)
        }
        other => panic!("{other}"),
    };
    (op.to_owned(), row["id"].as_i64().expect("an id"))
}
