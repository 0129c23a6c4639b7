select subscription_id, relation::oid, condition, requested_by::text, requester, search_path,
       (select array_agg(convert_to(k.part, getdatabaseencoding()) order by k.at)
        from unnest(after_key) with ordinality as k (part, at))
from webhook.backfill where id = $1 and state = 'running' for update
