select s.id, s.name, s.owner, s.url, s.events, case when s.enabled then 'on' else 'paused' end as state,
       t.circuit, t.retrying, t.queued, t.delivered_1h, t.failed_attempts_1h
from webhook.subscription s left join webhook.subscription_stats t on t.id = s.id order by s.id
