select o.name
from webhook.subscription s
cross join lateral (select coalesce($3, s.owner) as owner,
                           case when $3 is null then s.owner_role else webhook.role_named($3) end as role) present
join webhook.subscription o
    on o.id <> s.id and o.name = coalesce($2, s.name)
   and case when present.role is null then o.owner_role is null and o.owner = present.owner
            else present.role <> 0 and o.owner_role = present.role end
where s.id = $1
