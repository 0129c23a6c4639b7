-- Links to the page of an owner. A link is opened once. The session that it begins, and the link if
-- it is not opened, end when the link expires. Links are not part of a dump: a copy of the database
-- must not open the page for anyone.

create table webhook.portal_link (
    id             bigint      generated always as identity primary key,
    token_sha256   bytea       not null unique,
    session_sha256 bytea       unique,
    role           name        not null,
    role_oid       oid         not null,
    owner          text        not null,
    owner_role     oid,
    created_at     timestamptz not null default now(),
    created_by     name        not null default session_user,
    expires_at     timestamptz not null,
    used_at        timestamptz,
    constraint owner_has_1_to_200_characters check (length(owner) between 1 and 200 and owner !~ '[[:cntrl:]]'),
    constraint owner_is_not_all check (owner <> '*'),
    constraint hashes_have_32_bytes check (length(token_sha256) = 32 and length(session_sha256) = 32),
    constraint session_iff_used check ((session_sha256 is null) = (used_at is null)),
    constraint lasts_a_day_at_most check (expires_at <= created_at + interval '1 day')
);
comment on table  webhook.portal_link is
    'Links that open the page of an owner once, as hashes; created by POST /v1/portal-links and webhookd portal-link. Delete a row to end its session';
comment on column webhook.portal_link.token_sha256 is 'SHA-256 of the token in the link, which has 256 random bits';
comment on column webhook.portal_link.session_sha256 is
    'SHA-256 of the key of the session that the opened link began; null: the link has not been opened';
comment on column webhook.portal_link.role is 'Role of the session''s requests (SET LOCAL ROLE), which is only a subscriber; the daemon must be a member of it';
comment on column webhook.portal_link.role_oid is 'The role; 0: the role was dropped, and the link does not work';
comment on column webhook.portal_link.owner is 'Owner whose subscriptions and events the page shows, a role or another name';
comment on column webhook.portal_link.owner_role is
    'The role that owner names; null: owner is not a role; 0: the role was dropped, and the link does not work';
comment on column webhook.portal_link.expires_at is 'End of the link and of its session';
comment on column webhook.portal_link.used_at is 'When the link was opened; it cannot be opened again';
-- Those of an owner beyond the newest ones are deleted (webhook.create_portal_link).
create index portal_link_owner_idx on webhook.portal_link (owner, id);
-- Expired links: "expires_at < now() - interval '1 day'".
create index portal_link_expires_at_idx on webhook.portal_link (expires_at);

create trigger find_owner_role before insert or update of owner on webhook.portal_link
    for each row execute function webhook.find_owner_role();
create trigger find_token_role before insert or update of role on webhook.portal_link
    for each row execute function webhook.find_token_role();
alter table webhook.portal_link enable always trigger find_owner_role;
alter table webhook.portal_link enable always trigger find_token_role;

-- Has the rights of its caller. An expired link is kept for a day, so that the page can say that it
-- has expired.
create function webhook.create_portal_link(token_sha256 bytea, role text, owner text, minutes integer) returns timestamptz
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
as $$
declare
    links_max constant integer := 1000;
    ends timestamptz;
begin
    if create_portal_link.owner is null then
        raise exception using errcode = 'invalid_parameter_value', message = 'owner: must name one owner',
            hint = 'Pass the owner of the events, such as a tenant of the application.';
    elsif coalesce(create_portal_link.minutes not between 1 and 1440, true) then
        raise exception using errcode = 'invalid_parameter_value', message = 'minutes: must be between 1 and 1440',
            hint = 'Pass the number of minutes until the link and its session expire.';
    end if;
    perform webhook.check_token_role(create_portal_link.role, create_portal_link.owner);
    delete from webhook.portal_link l where l.expires_at < now() - interval '1 day';
    delete from webhook.portal_link l
        where l.owner = create_portal_link.owner
          and l.id <= (select o.id from webhook.portal_link o where o.owner = create_portal_link.owner
                       order by o.id desc offset links_max - 1 limit 1);
    insert into webhook.portal_link (token_sha256, role, owner, created_by, expires_at)
        values (create_portal_link.token_sha256, create_portal_link.role::name, create_portal_link.owner, current_user,
                now() + make_interval(mins => create_portal_link.minutes))
        returning expires_at into ends;
    return ends;
end
$$;
comment on function webhook.create_portal_link(bytea, text, text, integer) is
    'Stores the hash of a link to an owner''s page, and returns when it expires; the oldest of more than 1000 links of an owner are deleted';
