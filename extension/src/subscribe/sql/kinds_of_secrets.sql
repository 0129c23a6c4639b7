select coalesce(bool_or(k.is_secret), false), coalesce(bool_or(k.public_key is not null), false),
       coalesce(bool_or(k.is_elsewhere), false)
from (select s.public_key, s.secret ~ '^(env|file):' as is_elsewhere,
             s.public_key is null and s.secret !~ '^(env|file):' as is_secret
      from webhook.secret s
      where s.subscription_id = $1 and (s.expires_at is null or s.expires_at > clock_timestamp())) k
