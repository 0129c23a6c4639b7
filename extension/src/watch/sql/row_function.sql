select n.nspname::text, p.proname::text, p.prokind = 'f' and not p.proretset,
       p.pronargs = 1 and p.proargtypes[0] = $2,
       p.prorettype = any ($4),
       has_function_privilege($3, p.oid, 'execute')
from pg_proc p join pg_namespace n on n.oid = p.pronamespace where p.oid = $1
