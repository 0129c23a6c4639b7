select s.owner, hashtext(coalesce(s.owner_role::text, s.owner)),
       case $3 when 'subscriptions' then l.subscriptions else l.queued end
from webhook.subscription s cross join lateral webhook.limit_of(s.owner, s.owner_role) l
where s.id = $1 and not webhook.is_admin($2)
  and case $3 when 'subscriptions' then l.subscriptions else l.queued end is not null
