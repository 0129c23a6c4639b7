insert into webhook.locked_subscription as l (subscription_id, since, pid, role, application)
select x.subscription_id, clock_timestamp(), x.pid, x.role, x.application
from unnest($1::bigint[], $2::integer[], $3::text[], $4::text[]) as x (subscription_id, pid, role, application)
on conflict (subscription_id) do update set pid = excluded.pid, role = excluded.role, application = excluded.application
