select r.name from (select coalesce(o.rolname, t.role)::text as name, t.role_oid as oid
                    from webhook.token t left join pg_roles o on o.oid = t.role_oid
                    where t.expires_at is null or t.expires_at > now()
                    union select $1::text, to_regrole(quote_ident($1)) where $1::text is not null) r
where not coalesce(pg_has_role(current_user, r.oid, 'member'), false) order by r.name
