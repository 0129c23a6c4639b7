select id, name, role::text, coalesce(owner, '-'), date_trunc('second', created_at)::text,
       coalesce(date_trunc('second', expires_at)::text, '-')
from webhook.token order by id
