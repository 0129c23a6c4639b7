update webhook.cursor set epoch = epoch + 1, instance = coalesce(instance, $4), refused_instance = null
where system_identifier = $1 and database_oid = $2 and restored_at is null and instance is not distinct from $3
returning epoch, snapshot::text
