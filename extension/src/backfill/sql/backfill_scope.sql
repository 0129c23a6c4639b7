-- The previous schema has no scopes, no owners of events, and no internal types. A snapshot shows
-- what the events of inserted and updated rows show, so it is internal if one of those is.
select to_jsonb(s) ->> 'scope' = 'own', convert_to(s.owner, getdatabaseencoding()),
       num_nonnulls(to_jsonb(w) ->> 'owner_column', to_jsonb(w) ->> 'owner_function') > 0,
       (select min(t.type) from webhook.event_type t
        where to_jsonb(t) ->> 'internal' = 'true'
          and t.type in (w.noun || '.snapshot', w.noun || '.' || (w.verbs ->> 'insert'), w.noun || '.' || (w.verbs ->> 'update')))
from webhook.subscription s cross join webhook.watch w
where s.id = $1 and w.relation = $2
