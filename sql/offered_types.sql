-- Which event types a caller sees. Roles that can read every event, and publishers, see all of
-- them. Owners see the types that are not internal and that can have their events.

create function webhook.sees_all_types(role oid) returns boolean
    language sql stable parallel safe
    return webhook.may_see_all(role)
        or webhook.tenant() is null and has_function_privilege(role, '@extschema@.webhook_unwatch(regclass)'::regprocedure, 'execute');
comment on function webhook.sees_all_types(oid) is 'Whether a role sees all event types, as publishers, readers, and admins do';

create function webhook.sees_all_types() returns boolean
    language sql stable parallel safe
    return webhook.may_see_all()
        or webhook.tenant() is null and has_function_privilege('@extschema@.webhook_unwatch(regclass)'::regprocedure, 'execute');
comment on function webhook.sees_all_types() is 'Whether the current role sees all event types';

-- A snapshot shows what the events of inserted and updated rows show. Backfills use the same rule.
create function webhook.is_offered(event_type text) returns boolean
    language sql stable set search_path = pg_catalog, pg_temp
    return not webhook.is_internal(event_type)
       and (exists (select from webhook.event_type t where t.type = event_type and t.relation is null and t.derived is null)
            or exists (select from webhook.sources(event_type) s join webhook.watch w on w.relation = s.relation
                       where num_nonnulls(w.owner_column, w.owner_function, w.owner_setting) > 0
                         -- The event of an emptied table has no owner.
                         and s.operations <> '{truncate}'
                         and not ('snapshot' = any (s.operations)
                                  and (webhook.is_internal(w.noun || '.' || (w.verbs ->> 'insert'))
                                       or webhook.is_internal(w.noun || '.' || (w.verbs ->> 'update'))))));
comment on function webhook.is_offered(text) is
    'Whether an event type is offered to owners: it is not internal, and was entered by hand, or a watch that emits it has owners';

create function webhook.owner_types() returns setof text
    language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select t.type from webhook.event_type t where webhook.is_offered(t.type);
end;
comment on function webhook.owner_types() is 'The event types that are offered to owners';

create function webhook.offered_types() returns setof text
    language sql stable
begin atomic
    select t.type from webhook.event_type t
    where (select webhook.sees_all_types()) or t.type in (select o from webhook.owner_types() o);
end;
comment on function webhook.offered_types() is 'The event types that the current role sees';

alter table webhook.event_type enable row level security;
create policy of_owner on webhook.event_type for select
    using ((select webhook.sees_all_types()) or type in (select o from webhook.owner_types() o));
create policy by_admin_insert on webhook.event_type for insert with check (true);
create policy by_admin_update on webhook.event_type for update using (true);
create policy by_admin_delete on webhook.event_type for delete using (true);

-- The daemon applies a change in commit order with the events of the type. The rows of a dump are
-- no changes: they come with a checkpoint of the dump, or none.
create function webhook.tell_event_type_change() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    changed constant text := case tg_op when 'DELETE' then old.type else new.type end;
begin
    if exists (select from webhook.cursor c where c.singleton and c.restored_at is null) then
        insert into webhook.event (type, table_name, key, payload)
        values ('webhook.event_type.updated', 'webhook.event_type', changed,
                json_build_object('type', changed, 'internal', tg_op <> 'DELETE' and new.internal));
        perform webhook.gate_ring();
    end if;
    return null;
end
$$;
comment on function webhook.tell_event_type_change() is 'Emits webhook.event_type.updated';
revoke all on function webhook.tell_event_type_change() from public;

create trigger tell_insert after insert on webhook.event_type for each row
    when (new.internal) execute function webhook.tell_event_type_change();
create trigger tell_update after update on webhook.event_type for each row
    when (old.internal <> new.internal) execute function webhook.tell_event_type_change();
create trigger tell_delete after delete on webhook.event_type for each row
    when (old.internal) execute function webhook.tell_event_type_change();
alter table webhook.event_type enable always trigger tell_insert;
alter table webhook.event_type enable always trigger tell_update;
alter table webhook.event_type enable always trigger tell_delete;
