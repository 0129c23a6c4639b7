select t.oid, t.tgname::text, t.tgenabled <> 'D', webhook.trigger_definition(t.tgargs) ->> 'noun'
from pg_trigger t
where t.tgrelid = $1 and t.tgparentid = 0 and t.tgfoid = 'webhook.capture()'::regprocedure
order by t.tgname
