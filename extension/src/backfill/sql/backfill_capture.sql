select (select t.oid from pg_trigger t where t.tgrelid = w.relation and not t.tgisinternal
            and t.tgfoid = 'webhook.capture()'::regprocedure
        order by t.tgenabled = 'D', t.oid limit 1),
       w.noun
from webhook.watch w where w.relation = $1
