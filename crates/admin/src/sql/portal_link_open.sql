update webhook.portal_link l set used_at = now(), session_sha256 = $2
where l.token_sha256 = $1 and l.used_at is null and l.expires_at > now()
returning true
