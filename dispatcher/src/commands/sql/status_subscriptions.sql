select id::text, coalesce(name, '-'),
       case when enabled then 'on' else 'paused' || coalesce(': ' || paused_reason, '') end,
       delivered_1h::text, failed_attempts_1h::text, retrying::text, queued::text,
       coalesce(date_trunc('second', next_attempt_at)::text, '-'),
       coalesce(round(duration_ms_p50_1h::numeric, 1)::text, '-'),
       coalesce(round(duration_ms_p99_1h::numeric, 1)::text, '-'),
       coalesce(date_trunc('second', last_success_at)::text, '-'),
       coalesce(date_trunc('second', last_failure_at)::text, '-')
from webhook.subscription_stats order by id
