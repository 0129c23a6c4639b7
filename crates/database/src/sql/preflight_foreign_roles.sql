-- The roles that callers act as and that the daemon is not a member of. The second column is why it
-- must not become one: `absent`, or `powerful` (a member could become a superuser or the owner of
-- the extension, or pass row security). Null: it may.
select r.name,
       case when m.oid is null then 'absent'
            when m.rolname ~ '^pg_' or exists (
                select from pg_roles p
                where (p.rolsuper or p.rolcreaterole or p.rolreplication or p.rolbypassrls
                       or p.oid = (select extowner from pg_extension where extname = 'pg_webhook'))
                  and pg_has_role(m.oid, p.oid, 'member')) then 'powerful'
       end
from (select coalesce(o.rolname, t.role)::text as name, t.role_oid as oid
      from webhook.token t left join pg_roles o on o.oid = t.role_oid
      where t.expires_at is null or t.expires_at > now()
      union select $1::text, to_regrole(quote_ident($1)) where $1::text is not null) r
left join pg_roles m on m.oid = r.oid
where not coalesce(pg_has_role(current_user, m.oid, 'member'), false) order by r.name
