update webhook.receiver r set held_because = null, updated_at = clock_timestamp()
where r.held_because is not null and r.subscription_id <> all ($1::bigint[])
  and r.subscription_id not in (
      select l.subscription_id
      from webhook.subscription_lockers(array(select o.subscription_id from webhook.receiver o
                                              where o.held_because is not null)) l)
