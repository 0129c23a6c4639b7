with recursive above (oid) as (
    select inhparent from pg_inherits where inhrelid = $1
    union select i.inhparent from pg_inherits i join above a on i.inhrelid = a.oid)
select a.oid from above a where exists (select from webhook.watch w where w.relation = a.oid) order by a.oid
