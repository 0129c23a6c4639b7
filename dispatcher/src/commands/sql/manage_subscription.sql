select s.*, t.circuit, t.consecutive_failures, t.failing_since, t.allowed_rate, t.retrying, t.queued, t.blocked,
       t.next_attempt_at, t.delivered_1h, t.failed_attempts_1h, t.duration_ms_p50_1h, t.duration_ms_p99_1h,
       t.last_success_at, t.last_failure_at
from webhook.subscription s left join webhook.subscription_stats t on t.id = s.id where s.id = $1
