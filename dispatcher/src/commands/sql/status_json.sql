select json_build_object(
    'health', (select row_to_json(h) from webhook.health h),
    'subscriptions', coalesce((select json_agg(s order by s.id) from webhook.subscription_stats s), '[]'))::text
