select e.option, e.reason
from webhook.subscription s cross join lateral webhook.exceeded_limit(s) e
where s.id = $1 and not webhook.is_admin($2)
  and (e.option in ('rate_limit', 'verification') or e.option = any ($3))
limit 1
