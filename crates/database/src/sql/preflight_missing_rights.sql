select r.relation, string_agg(p.privilege, ', ' order by p.at)
from unnest($1::text[], $2::text[]) as r (relation, privileges),
     lateral unnest(string_to_array(r.privileges, ',')) with ordinality as p (privilege, at)
where not has_table_privilege(r.relation, p.privilege)
group by r.relation order by r.relation
