select r.name from (select t.role::text as name from webhook.token t where t.expires_at is null or t.expires_at > now()
                    union select $1::text where $1::text is not null) r
where not coalesce(pg_has_role(current_user, to_regrole(quote_ident(r.name)), 'member'), false) order by r.name
