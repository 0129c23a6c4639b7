select row_to_json(x)::text from (
    select t.id, t.name, coalesce(r.rolname, t.role)::text as role, coalesce(o.rolname, t.owner) as owner,
           t.created_at, t.created_by, t.expires_at
    from webhook.token t
    left join pg_roles r on r.oid = t.role_oid
    left join pg_roles o on o.oid = t.owner_role
    where t.id > $1 order by t.id limit $2) x
