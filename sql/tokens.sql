-- Who gets access to the admin server, and as which role: the rules that REST and the commands
-- share. The functions have the rights of their caller.

create function webhook.check_token_role(role text, owner text) returns void
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    sees_all boolean;
begin
    if check_token_role.role is null then
        raise exception using errcode = 'null_value_not_allowed', message = 'role must not be null',
            hint = 'Pass the role that the requests act as.';
    end if;
    if check_token_role.owner !~ '\S' or check_token_role.owner ~ '[[:cntrl:]]' or check_token_role.owner = '*'
       or length(check_token_role.owner) > 200 then
        raise exception using errcode = 'invalid_parameter_value', message = 'owner: must name one owner',
            hint = 'Pass the owner of the events, such as a tenant of the application: 1 to 200 characters, not blank, without control characters, and not "*".';
    end if;
    -- What act_as() of the admin server demands: row-level security applies, and the role cannot
    -- read the events of all owners.
    select r.rolsuper or r.rolbypassrls or has_table_privilege(r.oid, 'webhook.event', 'select')
        into sees_all from pg_roles r where r.rolname::text = check_token_role.role;
    if not found then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('role: role "%s" does not exist', check_token_role.role),
            hint = 'Create the role, and grant it to the role of the daemon.';
    elsif check_token_role.owner is not null and sees_all then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('role: role "%s" can see other owners', check_token_role.role),
            hint = 'For access that is limited to an owner, pass a role that is only a subscriber.';
    end if;
end
$$;
comment on function webhook.check_token_role(text, text) is
    'Raises an error if the role does not exist, or if it would show an owner the data of other owners';

create function webhook.create_token(name text, token_sha256 bytea, role text, owner text, expires_at timestamptz)
    returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
as $$
declare
    id bigint;
begin
    perform webhook.check_token_role(create_token.role, create_token.owner);
    insert into webhook.token (name, token_sha256, role, owner, expires_at, created_by)
        values (create_token.name, create_token.token_sha256, create_token.role::name, create_token.owner,
                create_token.expires_at, current_user)
        returning token.id into id;
    return id;
end
$$;
comment on function webhook.create_token(text, bytea, text, text, timestamptz) is
    'Stores the hash of a token of the admin server, and returns its id; for webhookd token create and POST /v1/tokens';
