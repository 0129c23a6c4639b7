insert into webhook.attempt
    (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, status, outcome, next_at, error,
     response, dns_ms, connect_ms, tls_ms, first_byte_ms, batch_id)
select a.*
from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::real[], $6::smallint[], $7::smallint[],
            $8::smallint[], $9::text[], $10::timestamptz[], $11::text[], $12::text[], $13::real[], $14::real[],
            $15::real[], $16::real[], $17::text[])
    as a (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, status, outcome, next_at,
          error, response, dns_ms, connect_ms, tls_ms, first_byte_ms, batch_id)
where not $18 or not exists (
    select from webhook.attempt o
    where o.event_id = a.event_id and o.subscription_id = a.subscription_id and o.started_at = a.started_at offset 0)
