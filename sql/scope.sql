-- What follows from the scope of a subscription: which past deliveries its owner sees, and what a
-- change of owner or scope leaves behind.

-- -- A change of owner or scope -------------------------------------------------------------------

-- Fires after find_owner_role. A role that is renamed or dropped is not another owner.
create function webhook.note_scope() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    new.scope_since := clock_timestamp();
    return new;
end
$$;
comment on function webhook.note_scope() is 'Records when the owner or the scope of a subscription changed';
revoke all on function webhook.note_scope() from public;

create trigger note_scope before update on webhook.subscription for each row
    when (old.scope <> new.scope
          or (old.owner_role is distinct from new.owner_role and new.owner_role is distinct from 0)
          or (new.owner_role is null and old.owner <> new.owner))
    execute function webhook.note_scope();
alter table webhook.subscription enable always trigger note_scope;

create function webhook.leave_scope() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    delete from webhook.queue q
    where q.subscription_id = new.id
      and not exists (select from webhook.event e
                      where e.slot = q.event_slot and e.xid = q.event_xid and e.id = q.event_id
                        and webhook.scope_mismatch(e, new) is null);
    delete from webhook.given_up g
    where g.subscription_id = new.id
      and not exists (select from webhook.attempt a
                      join webhook.event e on e.slot = g.event_slot and e.xid = a.event_xid and e.id = a.event_id
                      where a.event_id = g.event_id and a.subscription_id = g.subscription_id
                        and webhook.scope_mismatch(e, new) is null);
    return null;
end
$$;
comment on function webhook.leave_scope() is 'Removes the deliveries of events that are no longer in the scope of a subscription';
revoke all on function webhook.leave_scope() from public;

create trigger leave_scope after update on webhook.subscription for each row
    when (new.scope = 'own' and old.scope_since is distinct from new.scope_since)
    execute function webhook.leave_scope();
alter table webhook.subscription enable always trigger leave_scope;

-- -- What owners see of the past ------------------------------------------------------------------

create view webhook.visible_log with (security_barrier) as
select s.id as subscription_id,
       coalesce(greatest(s.scope_since, now() - make_interval(days => least(l.log_days, 36500))), '-infinity') as since
from webhook.subscription s
-- webhook.limit_of(), which the reader of a view cannot call.
left join lateral (
    select (array_agg(l.log_days order by l.owner = '*') filter (where l.log_days is not null))[1] as log_days
    from webhook.owner_limit l
    where l.owner = '*'
       or case when s.owner_role is null then l.owner_role is null and l.owner = s.owner
               else l.owner_role <> 0 and l.owner_role = s.owner_role end) l on true
where webhook.may_see(s.owner, s.owner_role);
comment on view webhook.visible_log is
    'Since when an owner sees the deliveries and attempts of a subscription: webhook.owner_limit.log_days, and the last change of owner or scope';

-- One value for a statement, so that each row costs one look-up in it.
create function webhook.visible_log_starts() returns jsonb
    language sql stable parallel safe
    return (select coalesce(jsonb_object_agg(v.subscription_id, v.since), '{}') from webhook.visible_log v);
comment on function webhook.visible_log_starts() is 'webhook.visible_log as one object: times by subscription';

create policy of_owner on webhook.attempt for select
    using ((select webhook.may_see_all())
           or started_at >= ((select webhook.visible_log_starts()) ->> subscription_id::text)::timestamptz);
create policy of_owner on webhook.backfill for select
    using ((select webhook.may_see_all())
           or created_at >= coalesce((select s.scope_since from webhook.subscription s where s.id = subscription_id), '-infinity')
              and subscription_id in (select s.id from webhook.subscription s));
