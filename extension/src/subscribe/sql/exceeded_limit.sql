select e.option, e.reason
from webhook.subscription s cross join lateral webhook.exceeded_limit(s) e
where s.id = $1 and not webhook.is_admin($2) limit 1
