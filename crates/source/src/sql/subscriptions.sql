select s.id, s.url, s.events, s.enabled, s.timeout, s.retry, s.max_in_flight, s.created_snapshot::text,
       s.filter::text, s.exclude_origin, s.format, s.payload_mode, nullif(s.headers::text, '{{}}'),
       s.verification, s.verified_at is not null, s.ordering, least(s.rate_limit, r.allowed_rate)::float8,
       s.batch_size, s.batch_window, s.compact, s.signature, s.tls, s.name, s.owner, {since_0_3}
from webhook.subscription s left join webhook.receiver r on r.subscription_id = s.id
where {which}
order by s.id
