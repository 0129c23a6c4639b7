-- A role that does not exist is for webhook.check_token_role(). From Postgres 16 on, a member may
-- lack the right to SET ROLE.
select coalesce((select case when current_setting('server_version_num')::integer >= 160000
                             then pg_has_role(r.oid, 'set') else pg_has_role(r.oid, 'member') end
                 from pg_roles r where r.rolname::text = $1), true)
