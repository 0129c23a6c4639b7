insert into webhook.sealing_key as k (public_key, key_id) values ($1, $2)
on conflict (singleton) do update
    set public_key = excluded.public_key, key_id = excluded.key_id, set_at = now(), set_by = session_user
    where k.public_key <> excluded.public_key
