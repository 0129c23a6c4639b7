select count(*)
from (select from webhook.subscription s
      join webhook.subscription o on o.id = $1 and webhook.owned_by(o.owner, o.owner_role, s.owner, s.owner_role)
      join webhook.queue q on q.subscription_id = s.id
      limit $2 + 1) c
