select q.subscription_id, q.order_key, q.event_id, q.state from webhook.queue q
where q.order_key is not null and q.state = 'waiting'
union all
select distinct b.subscription_id, b.order_key, b.event_id, b.state from webhook.queue w
cross join lateral (select * from webhook.queue q
                    where q.subscription_id = w.subscription_id
                      and q.order_key >= w.order_key and q.order_key <= w.order_key
                      and q.event_id < w.event_id and q.state = 'backlog'
                    order by q.order_key, q.event_id offset 0) as b
where w.order_key is not null and w.state = 'waiting'
union all
select distinct q.subscription_id, q.order_key, 0::bigint, q.state from webhook.queue q
where q.order_key is not null and q.state = 'blocked'
