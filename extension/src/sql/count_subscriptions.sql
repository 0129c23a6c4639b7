select count(*)
from (select from webhook.subscription s
      join webhook.subscription o on o.id = $1 and webhook.owned_by(o.owner, o.owner_role, s.owner, s.owner_role)
      limit $2 + 1) c
