select t.id, t.name, coalesce(r.rolname, t.role)::text || case when r.oid is null then ' (dropped)' else '' end,
       coalesce(o.rolname, t.owner, '-') || case when t.owner_role is not null and o.oid is null then ' (dropped)' else '' end,
       date_trunc('second', t.created_at)::text, coalesce(date_trunc('second', t.expires_at)::text, '-')
from webhook.token t
left join pg_roles r on r.oid = t.role_oid
left join pg_roles o on o.oid = t.owner_role
order by t.id
