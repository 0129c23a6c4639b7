select l.used_at is not null, l.expires_at <= now()
from webhook.portal_link l where l.token_sha256 = $1
