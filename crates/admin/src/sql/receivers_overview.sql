with h as materialized (select h.* from webhook.subscription_health h)
select json_build_object(
    'groups', (
        select coalesce(json_agg(g), '[]')
        from (select h.state, count(*) as receivers, count(*) filter (where h.given_up > 0) as giving_up,
                     sum(h.given_up)::bigint as given_up, count(*) filter (where h.rejected > 0) as rejecting,
                     sum(h.rejected)::bigint as rejected,
                     greatest(extract(epoch from now() - min(h.oldest_waiting_at)), 0)::float8 as oldest_waiting_s
              from h group by h.state) g),
    'receivers', (
        select coalesce(json_agg(p), '[]')
        from (select h.*,
                     json_build_object('since', extract(epoch from now() - h.since),
                                       'last_failure', extract(epoch from now() - h.last_failure_at),
                                       'next_attempt', extract(epoch from now() - h.next_attempt_at),
                                       'oldest_waiting', extract(epoch from now() - h.oldest_waiting_at)) as ages
              from h
              where ($1::text is null or h.state = $1)
                and ($2::text is null or strpos(lower(concat_ws(' ', h.name, h.url)), lower($2)) > 0)
                and (h.severity, h.id) > ($3::bigint, $4::bigint)
              order by h.severity, h.id limit $5) p))::text
