insert into webhook.attempt_{slot}
    (event_id, subscription_id, started_at, duration_ms, attempt, status, first_byte_ms, event_xid{columns}, slot, outcome)
select a.*, {slot}, 'succeeded'
from unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::real[], $5::smallint[], $6::smallint[], $7::real[],
            $8::bigint[]{arrays}) as a
