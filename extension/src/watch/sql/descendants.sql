with recursive below (oid) as (
    select inhrelid from pg_inherits where inhparent = $1
    union select i.inhrelid from pg_inherits i join below b on i.inhparent = b.oid)
select oid from below order by oid
