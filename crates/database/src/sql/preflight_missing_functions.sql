select r.name from unnest($1::text[]) as r (name)
where not exists (select from pg_proc p where p.pronamespace = 'webhook'::regnamespace and p.proname = r.name
                  and has_function_privilege(p.oid, 'execute'))
