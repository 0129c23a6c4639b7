select quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
       format('operator(%s.%s)', g.oprnamespace::regnamespace, g.oprname),
       format('operator(%s.%s)', e.oprnamespace::regnamespace, e.oprname)
from pg_index i
cross join unnest(i.indkey::smallint[], i.indclass::oid[]) with ordinality as k (attnum, opclass, place)
join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
join pg_opclass c on c.oid = k.opclass
join pg_amop ga on ga.amopfamily = c.opcfamily and ga.amopstrategy = 5
    and ga.amoplefttype = c.opcintype and ga.amoprighttype = c.opcintype
join pg_operator g on g.oid = ga.amopopr
join pg_amop ea on ea.amopfamily = c.opcfamily and ea.amopstrategy = 3
    and ea.amoplefttype = c.opcintype and ea.amoprighttype = c.opcintype
join pg_operator e on e.oid = ea.amopopr
where i.indrelid = $1 and i.indisprimary and k.place <= i.indnkeyatts
order by k.place
