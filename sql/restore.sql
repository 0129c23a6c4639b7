-- A copy of the database, and how it begins to deliver.

-- A physical copy (create database ... template, pg_upgrade) has the transaction ids of its
-- original, and continues from the checkpoint. A dump contains events with ids that mean nothing
-- here. Their meaning is evaluated once. Then they become 2, the id of frozen rows, which every
-- snapshot has seen. So the checkpoint can begin before everything. All events after it are events
-- of the copy itself.
create function webhook.adopt_restored(restored webhook.cursor) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
as $$
begin
    -- After the checkpoint of the dump, matched, and neither attempted nor queued: as the daemon
    -- would read it after a crash.
    insert into webhook.queue (subscription_id, event_id, event_xid, event_slot, state, order_key)
    select s.id, o.id, o.xid, o.slot, 'backlog', webhook.order_key(s.ordering, o)
    from (select (e.id, - e.xid, e.created_at, e.subscription_id, e.slot, e.truncated, e.type, e.table_name, e.key, e.actor,
                  e.origin, e.traceparent, e.payload, e.previous, e.owner)::webhook.event as event
          from webhook.event e where e.xid < 0) r
    cross join lateral (select (r.event).*) o
    join webhook.subscription s on s.created_at < restored.restored_at and webhook.mismatch(r.event, s) is null
    where not pg_visible_in_snapshot(o.xid::text::xid8, restored.snapshot)
      and not exists (select from webhook.attempt a
                      where a.event_id = o.id and a.event_xid = o.xid and a.subscription_id = s.id)
    on conflict do nothing;

    update webhook.queue q set event_xid = 2
        from webhook.event e where e.xid < 0 and e.slot = q.event_slot and e.id = q.event_id and - e.xid = q.event_xid;
    update webhook.attempt a set event_xid = 2
        from webhook.event e where e.xid < 0 and e.id = a.event_id and - e.xid = a.event_xid;
    update webhook.erasure x set event_xid = 2
        from webhook.event e where e.xid < 0 and e.id = x.event_id and - e.xid = x.event_xid;
    update webhook.event e set xid = 2 where e.xid < 0;
    update webhook.subscription s set created_snapshot = '3:3:' where s.created_at < restored.restored_at;
    update webhook.backfill b set requester = webhook.role_named(b.requested_by::text) where b.state = 'running';
end
$$;
comment on function webhook.adopt_restored(webhook.cursor) is
    'Prepares the contents of a dump for delivery here: queues undelivered events, and replaces transaction ids by past ones';

-- A copy of a database contains the hashes of its tokens and links, so those who have a token of
-- the original could use it here. A dump has no links.
create function webhook.revoke_copied_tokens() returns void
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    count bigint;
begin
    delete from webhook.portal_link;
    delete from webhook.token;
    get diagnostics count = row_count;
    if count > 0 then
        raise notice using message = format('revoked tokens of the admin server: %s', count),
            hint = 'Tokens of the original must not work on a copy. For the original itself, use webhook_arm(keep_tokens => true). To create tokens, use webhookd token create.';
    end if;
end
$$;
comment on function webhook.revoke_copied_tokens() is 'webhook_arm(): deletes the tokens of the admin server and the links to pages of owners, which may be those of another database';

create function @extschema@.webhook_arm(keep_tokens boolean) returns void
    language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $$
declare
    here constant bigint := (select system_identifier from pg_control_system());
    this_database constant oid := (select oid from pg_database where datname = current_database());
    armed webhook.cursor;
begin
    select * into armed from webhook.cursor where singleton for update;
    if not found then
        return;
    end if;
    -- The data does not show whether this is a physical copy or the original, or a database whose
    -- daemon has moved. The next daemon that delivers decides. If a daemon already delivers, the
    -- instance stays. Without an instance, copies made from now on would deliver.
    if armed.system_identifier = here and armed.database_oid = this_database and armed.restored_at is null then
        if exists (select from webhook.daemon_lock l where l.name = 'leader') then
            raise notice using message = 'webhook_arm() did nothing: a daemon delivers from this database',
                hint = 'To deliver with a daemon of another instance, stop the running daemon first.';
        elsif armed.instance is not null then
            update webhook.cursor set instance = null, refused_instance = null;
            if keep_tokens is not true then
                perform webhook.revoke_copied_tokens();
            end if;
            -- This may be production itself, restored from a snapshot of its disk.
            perform webhook.skip_numbers();
        end if;
        return;
    end if;
    if keep_tokens is not true then
        perform webhook.revoke_copied_tokens();
    end if;
    -- Receivers may know higher numbers than the copy.
    perform webhook.skip_numbers();
    if armed.restored_at is not null then
        perform webhook.adopt_restored(armed);
        armed.snapshot := '3:3:';
    end if;
    update webhook.cursor
        set system_identifier = here, database_oid = this_database, restored_at = null, snapshot = armed.snapshot,
            instance = null, refused_instance = null, epoch = epoch + 1, saved_at = clock_timestamp();
end
$$;
comment on function @extschema@.webhook_arm(boolean) is
    'Adopts this cluster and database after a restore or a copy: the next daemon of any instance then delivers from here. Does nothing while a daemon delivers';

create function @extschema@.webhook_arm() returns void
    language sql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
    as $$ select @extschema@.webhook_arm(false) $$;
comment on function @extschema@.webhook_arm() is 'webhook_arm(keep_tokens => false)';
