-- The owner of a subscription or a token: a role, or another name, such as a tenant of the
-- application. Rights depend on the role's OID. So they follow a role that is renamed, and a new
-- role with the name of a dropped one has none of its rights.

-- A function of the library, and not current_setting(): before the library is loaded, any session
-- can give any value to a setting of that name. Loading the library rejects such a value.
create function webhook.tenant() returns text
    language c stable parallel safe
    as 'MODULE_PATHNAME', 'tenant_wrapper';
comment on function webhook.tenant() is
    'The owner that this transaction is limited to (webhook.act_for()); null: only the privileges of the role apply';

create function webhook.tenant_role() returns oid
    language c stable parallel safe
    as 'MODULE_PATHNAME', 'tenant_role_wrapper';
comment on function webhook.tenant_role() is 'The role that webhook.tenant() names; null: it is not a role';

-- A cast to name or regrole would cut a long name to 63 bytes, and find another role.
create function webhook.role_named(owner text) returns oid
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    return case when owner = webhook.tenant() then webhook.tenant_role()
                else (select r.oid from pg_roles r where r.rolname = owner::name and r.rolname::text = owner) end;
comment on function webhook.role_named(text) is 'The role that an owner names; null: the owner is not a role';

create function webhook.find_owner_role() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    -- A dump has the OIDs of another cluster. 0: the role was dropped before the dump.
    if tg_op = 'UPDATE' or new.owner_role is distinct from 0 then
        new.owner_role := webhook.role_named(new.owner);
    end if;
    return new;
end
$$;
comment on function webhook.find_owner_role() is 'Sets the role of an owner';
revoke all on function webhook.find_owner_role() from public;

-- A role that may read every event may see every delivery. Views are called as their reader, so
-- they check it here too.
create function webhook.may_see_all() returns boolean
    language sql stable parallel safe
    return webhook.tenant() is null and has_table_privilege('webhook.event'::regclass, 'select');
comment on function webhook.may_see_all() is 'Whether the current role can see the subscriptions and deliveries of all owners, as readers, the daemon and admins can';

create function webhook.may_see_all(role oid) returns boolean
    language sql stable parallel safe
    return webhook.tenant() is null and has_table_privilege(role, 'webhook.event'::regclass, 'select');
comment on function webhook.may_see_all(oid) is 'webhook.may_see_all() for a caller on whose behalf another role runs';

create function webhook.is_tenant(owner text, owner_role oid) returns boolean
    language sql stable parallel safe
    return case when webhook.tenant_role() is null then owner = webhook.tenant() and owner_role is null
                else coalesce(owner_role = webhook.tenant_role(), false) end;
comment on function webhook.is_tenant(text, oid) is 'Whether the transaction is limited to this owner';

create function webhook.may_see(owner text, owner_role oid) returns boolean
    language sql stable parallel safe
    return case when webhook.tenant() is not null then webhook.is_tenant(owner, owner_role)
                else webhook.may_see_all() or coalesce(pg_has_role(owner_role, 'usage'), false) end;
comment on function webhook.may_see(text, oid) is 'Whether the current role can see the rows of this owner, because it is the owner, a member, or can see all owners';
