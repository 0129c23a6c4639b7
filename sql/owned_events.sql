-- What an owner may read of events, whether or not a subscription of the owner matches them.

-- Uses the text of the owner, as webhook.scope_mismatch() does: an event stores no role.
create function webhook.owns_event(owner text) returns boolean
    language sql stable parallel safe
    return case when owns_event.owner is null then false
                when owns_event.owner = '*' then true
                when webhook.tenant() is not null then owns_event.owner = webhook.tenant()
                else coalesce(pg_has_role(webhook.role_named(owns_event.owner), 'usage'), false) end;
comment on function webhook.owns_event(text) is
    'Whether the current role, or the owner that the transaction is limited to, has events of this owner; *: every owner has them';

-- security_barrier: a function in WHERE never sees events of other owners. Without it, the caller
-- could also learn the contents of internal types.
create view webhook.owned_event with (security_barrier) as
select webhook.public_id(e.id, e.created_at) as event_id, e.id as sequence, e.xid, e.created_at, e.truncated, e.type,
       e.table_name, e.key, e.actor, e.origin, e.traceparent, e.payload, e.previous, e.owner
from webhook.event e
where webhook.may_see_all()
   or (webhook.owns_event(e.owner) and e.type <> 'webhook.delivery.requested'
       and not exists (select from webhook.event_type t where t.type = e.type and t.internal));
comment on view webhook.owned_event is
    'Events of the owners that the current role is or is a member of, and announcements, without internal types; all events for roles that can read every event';
