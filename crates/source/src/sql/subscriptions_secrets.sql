select s.subscription_id, s.secret, s.expires_at from webhook.secret s
where (s.expires_at is null or s.expires_at > now()) and {which}
order by s.subscription_id, s.id desc
