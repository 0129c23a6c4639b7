select webhook.may_see_all($1), webhook.is_admin($1), pg_get_userbyid($1)::text = $2,
       least(512, (webhook.limit_of($2, webhook.role_named($2))).max_in_flight)
