//! Stand-ins for pg_net and Supabase, and a receiver that follows their documentation.

use super::{
    application::{COLUMNS, names, post},
    receiver::Request,
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio_postgres::Client;

/// The parts of pg_net and Supabase that the trigger uses: a queue, and a function that fills it.
pub const SUPABASE: &str = r#"
    create schema net;
    create table net.http_request_queue (id bigint generated always as identity, url text, headers jsonb, body text);
    create function net.http_post(url text, body jsonb, params jsonb, headers jsonb, timeout_milliseconds int) returns bigint
        language sql as 'insert into net.http_request_queue (url, headers, body) values (url, headers, body::text) returning id';
    create schema supabase_functions;
    create function supabase_functions.http_request() returns trigger language plpgsql security definer as $$
    begin
        perform net.http_post(tg_argv[0], jsonb_build_object('type', tg_op, 'table', tg_table_name, 'schema', tg_table_schema,
                                                             'record', new, 'old_record', old),
                              tg_argv[3]::jsonb, tg_argv[2]::jsonb, tg_argv[4]::int);
        return null;
    end $$;"#;

/// Runs pg_net's worker, which sends the queued requests.
pub async fn pg_net(client: Client) {
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    loop {
        pace.tick().await;
        let taken = client
            .query("delete from net.http_request_queue where id in (select id from net.http_request_queue order by id limit 20)
                    returning url, headers ->> 'Authorization', body", &[])
            .await
            .expect("the queue can be read");
        for row in taken {
            let (url, authorization, body): (String, String, String) = (row.get(0), row.get(1), row.get(2));
            post(&url, &[("content-type", "application/json"), ("authorization", &authorization)], body)
                .await;
        }
    }
}

/// Reads the types of Supabase's documentation: InsertPayload, UpdatePayload, DeletePayload.
pub fn supabase_receiver(request: &Request) -> (String, i64) {
    assert_eq!(request.headers["authorization"], "Bearer let-me-in");
    assert_eq!(request.headers["content-type"], "application/json");
    let payload = request.json();
    assert_eq!(names(&payload), ["old_record", "record", "schema", "table", "type"]);
    assert_eq!((&payload["schema"], &payload["table"]), (&json!("public"), &json!("orders")));
    let (new, old) = (&payload["record"], &payload["old_record"]);
    let (before, after) = (json!({ "note": "a", "total": 1.5 }), json!({ "note": null, "total": 2.5 }));
    let has = |row: &Value, values: &Value| {
        assert_eq!(names(row), COLUMNS);
        assert_eq!(
            (&row["note"], &row["total"], &row["customer"]),
            (&values["note"], &values["total"], &json!("Zoë"))
        );
    };
    let row = match payload["type"].as_str().expect("a type") {
        "INSERT" => {
            assert!(old.is_null());
            has(new, &before);
            new
        }
        "UPDATE" => {
            has(old, &before);
            has(new, &after);
            new
        }
        "DELETE" => {
            assert!(new.is_null());
            has(old, &after);
            old
        }
        other => panic!("{other}"),
    };
    (payload["type"].as_str().expect("a type").to_owned(), row["id"].as_i64().expect("an id"))
}
