update webhook.backfill
set after_key = (select array_agg(convert_from(k.part, getdatabaseencoding()) order by k.at)
                 from unnest($2) with ordinality as k (part, at)),
    rows_done = rows_done + $3,
    last_event_id = coalesce($4, last_event_id), updated_at = clock_timestamp() where id = $1
