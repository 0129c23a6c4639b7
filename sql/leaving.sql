-- What an owner leaves behind, and its removal.

create function webhook.is_named(owner text, owner_role oid, name text) returns boolean
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    return coalesce((select r.rolname::text from pg_roles r where r.oid = owner_role), owner) = is_named.name;
comment on function webhook.is_named(text, oid, text) is 'Whether an owner has this name now: a role that was renamed has another';

create function @extschema@.webhook_forget_owner(owner text) returns bigint
    language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    wanted constant text := webhook_forget_owner.owner;
    ids bigint[];
begin
    if wanted is null then
        raise exception using errcode = 'null_value_not_allowed', message = 'owner must not be null',
            hint = 'Pass the owner of subscriptions or events: a role, or a tenant of the application.';
    elsif wanted = '*' then
        raise exception using errcode = 'invalid_parameter_value', message = 'owner: must not be "*", which stands for all owners',
            hint = 'Pass the name of one owner.';
    end if;
    -- In the order of the daemon's locks. The daemon skips locked subscriptions.
    ids := array(select s.id from webhook.subscription s where webhook.is_named(s.owner, s.owner_role, wanted) order by s.id for update);
    delete from webhook.queue q where q.subscription_id = any (ids);
    -- crates/admin writes callers as a JSON array: role, owner, role of the owner.
    delete from webhook.idempotency i where i.subscription_id = any (ids) or strpos(i.caller, ',' || to_json(wanted)::text || ',') > 0;
    update webhook.attempt a set response = null where a.subscription_id = any (ids) and a.response is not null;
    -- Its triggers remove secrets, backfills and given-up deliveries.
    delete from webhook.subscription s where s.id = any (ids);
    delete from webhook.token t
    where webhook.is_named(t.owner, t.owner_role, wanted)
       -- A role that can read every event is no owner, though it may have the name of one.
       or t.owner is null and webhook.is_named(t.role::text, t.role_oid, wanted)
          and not coalesce(webhook.may_see_all(t.role_oid), false);
    delete from webhook.portal_link l where webhook.is_named(l.owner, l.owner_role, wanted);
    delete from webhook.owner_limit l where l.owner <> '*' and webhook.is_named(l.owner, l.owner_role, wanted);
    return webhook.blank_events('owner', wanted);
end
$$;
comment on function @extschema@.webhook_forget_owner is
    'Removes the subscriptions, tokens, portal links and limits of an owner, and blanks the payloads of its events as webhook_erase() does. Returns the number of events';
