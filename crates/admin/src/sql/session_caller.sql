select r.rolname::text, coalesce(o.rolname, l.owner), l.owner_role
from webhook.portal_link l
join pg_roles r on r.oid = l.role_oid
left join pg_roles o on o.oid = l.owner_role
where l.session_sha256 = $1 and l.expires_at > now()
  and (l.owner_role is null or o.oid is not null)
