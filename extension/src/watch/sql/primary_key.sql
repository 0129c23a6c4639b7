select a.attname::text
from pg_index i
cross join unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
where i.indrelid = $1 and i.indisprimary and k.place <= i.indnkeyatts
order by k.place
