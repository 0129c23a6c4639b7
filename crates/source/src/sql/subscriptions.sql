select s.id, s.url, array_remove(s.events, null), s.enabled, (extract(epoch from s.timeout) * 1000000)::bigint,
       array(select (extract(epoch from r.wait) * 1000000)::bigint
             from unnest(s.retry) with ordinality as r (wait, at)
             where r.wait is not null order by r.at),
       s.max_in_flight, s.created_snapshot::text, s.filter::text, array_remove(s.exclude_origin, null), s.format,
       s.payload_mode, nullif(s.headers::text, '{}'), s.verification, s.verified_at is not null,
       s.ordering, least(s.rate_limit, r.allowed_rate)::float8, s.batch_size,
       (extract(epoch from s.batch_window) * 1000000)::bigint, s.compact, array_remove(s.signature, null), s.tls,
       s.name, (select failures_reset_at from (select s.*) own), (select expected_response from (select s.*) own)::text,
       (select keep_response from (select s.*) own), s.owner,
       (select scope from (select s.*) own)
-- In the previous schema, the subqueries find no such columns in "own", and take those of
-- "lacking".
from (select null::timestamptz as failures_reset_at, null::jsonb as expected_response, false as keep_response, 'all' as scope) lacking
cross join webhook.subscription s left join webhook.receiver r on r.subscription_id = s.id
where $1::bigint[] is null or s.id = any ($1)
