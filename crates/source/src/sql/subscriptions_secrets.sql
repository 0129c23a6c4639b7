select subscription_id, secret, expires_at from webhook.secret
where (expires_at is null or expires_at > now()) and ($1::bigint[] is null or subscription_id = any ($1))
order by id desc
