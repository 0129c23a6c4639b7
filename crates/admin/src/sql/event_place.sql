-- An event that the caller cannot see does not exist.
select p.xid, p.id from webhook.event_place($1) p
where webhook.may_see_all()
   or exists (select from webhook.owned_event e where e.xid = p.xid and e.sequence = p.id)
   or exists (select from webhook.attempt a where a.event_id = p.id and a.subscription_id = $2)
   or exists (select from webhook.matching_event m
              where m.subscription_id = $2 and m.xid = p.xid and m.sequence = p.id)
