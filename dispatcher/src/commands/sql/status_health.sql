select armed, dispatcher_running, gate,
       case when pending_is_lower_bound then 'at least ' else '' end || pending,
       case when queued_is_lower_bound then 'at least ' else '' end || queued,
       date_trunc('milliseconds', lag)::text,
       coalesce(date_trunc('second', oldest_undelivered_at)::text, '-'),
       coalesce(date_trunc('second', checkpoint_at)::text, '-'),
       case when dispatcher_silent_for > interval '8 s' then date_trunc('second', dispatcher_silent_for)::text end
from webhook.health h
