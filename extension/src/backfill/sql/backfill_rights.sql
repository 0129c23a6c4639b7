-- The function of the watch that the role cannot execute; null for "may": it does not exist. The
-- previous schema has no owner functions.
select has_table_privilege($1, $2, 'select'), w.noun, f.function, f.may, f.is_owner
from pg_class c join pg_namespace n on n.oid = c.relnamespace left join webhook.watch w on w.relation = c.oid
left join lateral (
    select u.function, u.is_owner,
           has_function_privilege($1, to_regprocedure(format('%s(%I.%I)', u.function, n.nspname, c.relname)), 'execute') as may
    from (values (w.payload, false), (to_jsonb(w) ->> 'owner_function', true)) as u (function, is_owner)
    where u.function is not null
    order by may nulls first limit 1) f on true
where c.oid = $2
