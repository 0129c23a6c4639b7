insert into webhook.backfill (subscription_id, relation, condition, requested_by, search_path)
values ($1, $2, $3, pg_get_userbyid($4), $5)
on conflict (subscription_id, relation) where state = 'running' do nothing returning id
