select o.name
from webhook.subscription s
join webhook.subscription o
    on o.id <> s.id and o.owner = coalesce($3, s.owner) and o.name = coalesce($2, s.name)
where s.id = $1
