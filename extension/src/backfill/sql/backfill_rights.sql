select has_table_privilege($1, $2, 'select'), w.noun, w.payload,
       case when w.payload is not null then
           has_function_privilege($1, to_regprocedure(format('%s(%I.%I)', w.payload, n.nspname, c.relname)), 'execute') end
from pg_class c join pg_namespace n on n.oid = c.relnamespace left join webhook.watch w on w.relation = c.oid
where c.oid = $2
