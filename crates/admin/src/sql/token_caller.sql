select r.rolname::text, coalesce(o.rolname::text, t.owner), t.owner_role
from webhook.token t
join pg_roles r on r.oid = t.role_oid
left join pg_roles o on o.oid = t.owner_role
where t.token_sha256 = $1 and (t.expires_at is null or t.expires_at > now())
  and (t.owner_role is null or o.oid is not null)
