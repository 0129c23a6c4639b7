select a.ended_us, a.event_id, a.subscription_id, a.attempt,
       to_char(to_timestamp(a.ended_us / 1e6) at time zone 'UTC', 'HH24:MI:SS.MS') || 'Z',
       coalesce(d.event_id, '#' || a.event_id), coalesce(d.type, '-'), coalesce(d.key, '-'), a.outcome,
       coalesce(a.status::text, '-'), a.duration_ms, coalesce(a.error, ''),
       case when $5::boolean then (select row_to_json(j) from (select d.event_id, a.subscription_id, d.type, d.key, a.attempt,
            a.started_at, a.duration_ms, a.outcome, a.status, a.next_at, a.error, a.response) j)::text end
from (select a.*, (extract(epoch from a.started_at) * 1000000 + a.duration_ms * 1000)::bigint as ended_us
      from webhook.attempt a
      where a.started_at > to_timestamp(($1::bigint - 5000000) / 1e6) - interval '6 minutes'
        and ($2::bigint is null or a.subscription_id = $2) and not ($3::boolean and a.outcome = 'succeeded')) a
left join lateral (select d.event_id, d.type, d.key from webhook.delivery d
                   where d.sequence = a.event_id and d.subscription_id = a.subscription_id offset 0) d on true
where a.ended_us > $1::bigint - 5000000
order by a.ended_us, a.event_id, a.subscription_id limit $4::bigint
