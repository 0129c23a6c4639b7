with locked as materialized (
    select l.subscription_id from webhook.subscription_lockers($1::bigint[]) l
), written as (
    insert into webhook.receiver as r (subscription_id, held_because)
    select s.id, h.why from unnest($1::bigint[], $2::text[]) as h (id, why) join webhook.subscription s on s.id = h.id
    where s.id not in (select l.subscription_id from locked l)
    on conflict (subscription_id) do update
        set held_because = excluded.held_because, updated_at = clock_timestamp()
        where r.held_because is distinct from excluded.held_because
)
select l.subscription_id from locked l
