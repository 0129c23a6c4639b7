-- In the previous schema, the subquery finds no column requester in "own", and takes the role with
-- the name.
select b.subscription_id, b.relation::oid, b.condition, b.requested_by::text,
       (select requester from (select b.*) own), b.search_path,
       (select array_agg(convert_to(k.part, getdatabaseencoding()) order by k.at)
        from unnest(b.after_key) with ordinality as k (part, at))
from webhook.backfill b
cross join lateral (select (select r.oid from pg_roles r where r.rolname = b.requested_by) as requester) named
where b.id = $1 and b.state = 'running' for update of b nowait
