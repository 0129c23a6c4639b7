select tgrelid, tgname::text from pg_trigger
where tgrelid = any ($1) and not tgisinternal and tgfoid <> 'webhook.capture()'::regprocedure
  and tgname in ('webhook_insert', 'webhook_update', 'webhook_delete', 'webhook_truncate',
                 'webhook_statement')
order by tgrelid, tgname
