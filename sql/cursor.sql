-- The cursor: how far delivery has come. Also what a dump of the database carries, because a dump
-- brings a cursor of another cluster.

create table webhook.cursor (
    singleton         boolean     primary key default true,
    snapshot          pg_snapshot not null,
    epoch             bigint      not null default 0,
    system_identifier bigint      not null,
    database_oid      oid         not null,
    saved_at          timestamptz not null default clock_timestamp(),
    restored_at       timestamptz,
    instance          text,
    refused_instance  text,
    constraint there_is_one_row check (singleton),
    constraint instance_is_a_line check (instance !~ '^$|[[:cntrl:]]' and refused_instance !~ '^$|[[:cntrl:]]')
);
comment on table  webhook.cursor is
    'Checkpoint of the daemon, and the cluster and instance that it belongs to; the daemon does not deliver from a copy of the database';
comment on column webhook.cursor.instance is
    'Instance of the daemons of this database (webhookd run --instance); daemons of another instance do not deliver; null: the next daemon that delivers sets it';
comment on column webhook.cursor.refused_instance is
    'Instance of the last rejected daemon, if no daemon has delivered since';
comment on column webhook.cursor.restored_at is
    'When this row was restored from a dump, until webhook_arm() is called; null: the row was created here or has been adopted';
comment on column webhook.cursor.snapshot is
    'All events that are visible in it are resolved: attempted, queued, or without a match';
comment on column webhook.cursor.epoch is 'Each daemon that takes over increases it; a checkpoint with a lower epoch is rejected';

-- The rows of a dump come by COPY, which fires these triggers. Capture inserts without triggers.
-- webhook_arm() handles the marks (sql/restore.sql).
create function webhook.mark_restored_cursor() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    -- A cursor that is created here belongs here, and has no takeover yet.
    new.restored_at := case when new.epoch > 0
        or new.system_identifier <> (select c.system_identifier from pg_control_system() c)
        or new.database_oid <> (select d.oid from pg_database d where d.datname = current_database())
        then clock_timestamp() end;
    return new;
end
$$;
comment on function webhook.mark_restored_cursor() is 'Marks a checkpoint that was restored from a dump';
create trigger mark_restored before insert on webhook.cursor for each row execute function webhook.mark_restored_cursor();
alter table webhook.cursor enable always trigger mark_restored;

create function webhook.mark_restored_event() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    new.xid := - new.xid;
    return new;
end
$$;
comment on function webhook.mark_restored_event() is
    'Marks events that were restored from a dump: their transaction ids are not of this cluster, and are stored as negative numbers until webhook_arm()';
create trigger mark_restored before insert on webhook.event for each row
    when (new.xid <> webhook.current_xid()) execute function webhook.mark_restored_event();

-- Capture writes to the present slot only. An INSERT by hand may name any slot, and the daemon must
-- read it there.
create function webhook.open_slot() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update webhook.ring_head h set open = h.open || new.slot, changes = h.changes + 1 where new.slot <> all (h.open);
    update webhook.ring_turn t set ended_at = null, rows = null, first_at = null, last_at = null where t.slot = new.slot;
    return new;
end
$$;
comment on function webhook.open_slot() is
    'Reopens a slot whose turn is over when a row is inserted into it by hand, in the same transaction';
-- After mark_restored, which comes first by its name: the daemon does not read the rows of a dump
-- from the outbox.
create trigger open_slot before insert on webhook.event for each row
    when (new.xid = webhook.current_xid() and not webhook.slot_is_open(new.slot)) execute function webhook.open_slot();

do $$
declare
    -- Queued, or after the checkpoint. All conditions of a dump are evaluated in its one snapshot.
    undelivered constant text := 'where (select s.dump_events from webhook.setting s) and ((%1$s, %2$s) in (select q.event_id, q.event_xid from webhook.queue q)
        or (%2$s >= (select pg_snapshot_xmin(c.snapshot)::text::bigint from webhook.cursor c)
            and not pg_visible_in_snapshot(%2$s::text::xid8, (select c.snapshot from webhook.cursor c))))';
begin
    for slot in 0..15 loop
        execute format('alter table webhook.event_%s enable always trigger mark_restored', slot);
        execute format('alter table webhook.event_%s enable always trigger open_slot', slot);
        perform pg_extension_config_dump(format('webhook.event_%s', slot)::regclass, format(undelivered, 'id', 'xid'));
        perform pg_extension_config_dump(format('webhook.attempt_%s', slot)::regclass, format(undelivered, 'event_id', 'event_xid'));
    end loop;
end
$$;

-- -- What a dump of the database carries ----------------------------------------------------------

select pg_extension_config_dump('webhook.watch', '');
select pg_extension_config_dump('webhook.event_type', '');
select pg_extension_config_dump('webhook.event_id_seq', '');
select pg_extension_config_dump('webhook.queue', 'where (select s.dump_events from webhook.setting s)');
select pg_extension_config_dump('webhook.cursor', '');
