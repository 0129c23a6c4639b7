delete from webhook.given_up g
using webhook.queue q
where g.subscription_id = $1 and q.subscription_id = $1 and q.event_id = g.event_id
  and ($2 is null or g.event_id = $2)
