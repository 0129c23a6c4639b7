-- Rights: nothing to PUBLIC, and one call that gives a role what a part of the work needs.

-- Runs with the rights of its caller, who must be the extension's owner: GRANT by another role
-- would only warn.
create function @extschema@.webhook_grant(role regrole, what text) returns void
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    parts constant text[] := array['publisher', 'subscriber', 'reader', 'dispatcher', 'admin'];
    included text[];
    statement text;
    slot integer;
begin
    if role is null or what is null then
        raise exception using errcode = 'null_value_not_allowed',
            message = format('%s must not be null', case when role is null then 'role' else 'what' end),
            hint = 'Pass a role, and one of publisher, subscriber, reader, dispatcher and admin.';
    elsif not exists (select from pg_roles r where r.oid = role) then
        raise exception using errcode = 'undefined_object', message = format('role %s does not exist', role),
            hint = 'Create the role first. PUBLIC cannot be used.';
    elsif what <> all (parts) then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('what: "%s" is not valid', what),
            hint = 'Pass publisher, subscriber, reader, dispatcher or admin.';
    elsif not pg_has_role((select x.extowner from pg_extension x where x.extname = 'pg_webhook'), 'usage') then
        raise exception using errcode = 'insufficient_privilege',
            message = 'must be owner of extension pg_webhook',
            hint = 'Only the superuser who created the extension, and members of that role, can grant.';
    end if;
    included := case what when 'admin' then array['publisher', 'subscriber', 'reader', 'admin'] else array[what] end;

    for statement in
        select r.statement from (values
            -- The triggers of webhook_watch() are made with the rights of its caller, who therefore
            -- needs their function.
            ('publisher', 'grant usage on schema @extschema@, webhook to %s'),
            ('publisher', 'grant execute on function webhook.capture(), @extschema@.webhook_emit(text, json, text, text),
                 @extschema@.webhook_emit(text, json, anynonarray, text),
                 @extschema@.webhook_emit(webhook.event_type_name, jsonb, text, text),
                 @extschema@.webhook_emit(webhook.event_type_name, jsonb, anynonarray, text),
                 @extschema@.webhook_watch(regclass, text, jsonb, text[], text[], text[], text, regproc, text[], text, regproc, text),
                 @extschema@.webhook_unwatch(regclass), @extschema@.webhook_migrate(regclass, text) to %s'),

            ('subscriber', 'grant usage on schema @extschema@, webhook to %s'),
            ('subscriber', 'grant execute on function
                 @extschema@.webhook_subscribe, @extschema@.webhook_alter,
                 @extschema@.webhook_unsubscribe(bigint), @extschema@.webhook_pause(bigint, text),
                 @extschema@.webhook_resume(bigint, boolean), @extschema@.webhook_rotate_secret(bigint, interval),
                 @extschema@.webhook_ping(bigint), @extschema@.webhook_try_now(bigint, boolean),
                 @extschema@.webhook_redeliver(text, bigint),
                 @extschema@.webhook_replay(bigint, timestamptz, timestamptz, text[]),
                 @extschema@.webhook_redeliver_failed(bigint, timestamptz, timestamptz, boolean),
                 @extschema@.webhook_dry_run(bigint, timestamptz),
                 @extschema@.webhook_backfill(bigint, regclass, text), @extschema@.webhook_backfill_cancel(bigint),
                 @extschema@.webhook_sign(text, text, bigint, text),
                 @extschema@.webhook_verify(text, text, bigint, text, text, timestamptz) to %s'),
            -- Rows of their own: row-level security, and the views' own conditions.
            ('subscriber', 'grant select on webhook.subscription, webhook.attempt, webhook.backfill, webhook.event_type,
                 webhook.delivery, webhook.recorded_delivery, webhook.subscription_stats, webhook.subscription_health, webhook.public_key, webhook.visible_log to %s'),

            ('subscriber reader', 'grant select on webhook.delivered_event, webhook.matching_event, webhook.owned_event to %s'),
            ('subscriber reader', 'grant execute on function webhook.event_stretch(bigint, bigint, integer), webhook.event_place(text),
                 webhook.last_number(), webhook.number_at(timestamptz) to %s'),

            ('subscriber reader', 'grant execute on function @extschema@.webhook_deliveries(bigint, integer, bigint) to %s'),

            ('publisher subscriber reader', 'grant execute on function @extschema@.webhook_event_schema(text),
                 @extschema@.webhook_event_example(text), @extschema@.webhook_openapi(text[]), @extschema@.webhook_asyncapi(text[]),
                 webhook.described_event_types() to %s'),

            ('reader', 'grant usage on schema @extschema@, webhook to %s'),
            ('reader', 'grant select on webhook.event, webhook.attempt, webhook.queue, webhook.subscription,
                 webhook.watch, webhook.detached_partition, webhook.event_type, webhook.receiver, webhook.backfill, webhook.cursor, webhook.beyond_checkpoint,
                 webhook.pending, webhook.delivery, webhook.recorded_delivery, webhook.subscription_stats, webhook.subscription_health, webhook.given_up,
                 webhook.locked_subscription, webhook.public_key, webhook.visible_log, webhook.health, webhook.ring, webhook.setting,
                 webhook.owner_limit to %s'),

            ('publisher reader', 'grant execute on function @extschema@.webhook_check() to %s'),
            ('reader', 'grant execute on function webhook.find_event(text), webhook.event_created_at(text),
                 webhook.limit_of(text, oid), webhook.exceeded_limit(webhook.subscription) to %s'),
            ('reader dispatcher', 'grant execute on function webhook.search_pending() to %s'),

            -- Functions in a view are executed with the rights of the one who reads it.
            ('publisher subscriber reader dispatcher', 'grant execute on function webhook.exact_utf8(text), webhook.replace_untranslatable() to %s'),
            ('subscriber reader dispatcher', 'grant execute on function webhook.public_id(bigint, timestamptz),
                 webhook.event_sequence(text), webhook.pattern_matches(text[], text), webhook.is_rejection(smallint),
                 webhook.order_key(text, webhook.event), webhook.ring_begins(timestamptz),
                 webhook.ring_slots(timestamptz, timestamptz), webhook.ring_slot(timestamptz),
                 webhook.tenant(), webhook.tenant_role(), webhook.is_tenant(text, oid), webhook.role_named(text), webhook.owns_event(text),
                 webhook.may_see_all(), webhook.may_see(text, oid), webhook.scope_mismatch(webhook.event, webhook.subscription),
                 webhook.is_internal(text), webhook.mismatch(webhook.event, webhook.subscription),
                 webhook.visible_log_starts(), webhook.sees_all_types(), webhook.owner_types(), webhook.offered_types(),
                 webhook.filter_matches(webhook.event, jsonpath),
                 webhook.path_matches(jsonpath, text, text, text, text, text, boolean, json, json) to %s'),

            ('dispatcher', 'grant usage on schema webhook to %s'),
            ('dispatcher', 'grant select on webhook.event, webhook.event_type, webhook.subscription, webhook.secret, webhook.sealing_key, webhook.backfill,
                 webhook.beyond_checkpoint, webhook.pending, webhook.delivery, webhook.subscription_stats, webhook.subscription_health,
                 webhook.health to %s'),
            ('dispatcher', 'grant select on webhook.ring_head to %s'),
            ('dispatcher', 'grant select, insert on webhook.attempt to %s'),
            ('dispatcher', 'grant select, insert, update, delete on webhook.queue, webhook.receiver, webhook.given_up,
                 webhook.locked_subscription to %s'),
            ('dispatcher', 'grant select, insert, update on webhook.cursor to %s'),
            ('dispatcher', 'grant execute on function webhook.disable_subscription(bigint, text),
                 webhook.confirm_subscription(bigint, text, numeric), webhook.tell(text, bigint, json), webhook.turn_ring(boolean), webhook.retire_slot(integer),
                 webhook.skip_numbers(bigint), webhook.remove_queued(bigint[], bigint[]),
                 webhook.remove_given_up(bigint[], bigint[]), webhook.lock_subscriptions(bigint[]), webhook.subscription_lockers(bigint[]),
                 webhook.relieve_ring(), webhook.ring_size(),
                 webhook.backfill_step(bigint, integer), webhook.end_backfill(bigint, text, text) to %s'),
            -- For its admin server.
            ('dispatcher', 'grant select on webhook.token, webhook.portal_link to %s'),
            ('dispatcher', 'grant update (session_sha256, used_at, expires_at) on webhook.portal_link to %s'),
            ('dispatcher', 'grant select, insert, update, delete on webhook.idempotency to %s'),
            ('dispatcher', 'grant execute on function webhook.act_for(text, oid), webhook.follow_roles(),
                 webhook.last_number(), webhook.delivery_number(bigint, text, bigint), webhook.number_at(timestamptz), webhook.lower_priority() to %s'),
            ('dispatcher', 'grant execute on routine webhook.gate_ring(), webhook.gate_sleep(integer), webhook.try_daemon_lock(text),
                 webhook.release_daemon_lock(text) to %s'),

            ('admin', 'grant execute on function @extschema@.webhook_arm(), @extschema@.webhook_arm(boolean), @extschema@.webhook_seal(text),
                 @extschema@.webhook_erase(regclass, text), @extschema@.webhook_forget_owner(text), webhook.turn_ring(boolean) to %s'),
            ('admin', 'grant select on webhook.sealing_key, webhook.erasure to %s'),
            ('admin', 'grant select, insert, delete on webhook.token, webhook.portal_link to %s'),
            ('admin', 'grant execute on function webhook.check_token_role(text, text),
                 webhook.create_token(text, bytea, text, text, timestamptz),
                 webhook.create_portal_link(bytea, text, text, integer) to %s'),
            -- For webhookd rekey, together with what a dispatcher has.
            ('admin', 'grant update on webhook.secret to %s'),
            ('admin', 'grant update on webhook.setting to %s'),
            ('admin', 'grant insert, update, delete on webhook.owner_limit to %s'),
            ('admin', 'grant update (description, data_schema, example, internal) on webhook.event_type to %s'),
            ('admin', 'grant insert, delete on webhook.event_type to %s')
        ) as r (parts, statement)
        where string_to_array(r.parts, ' ') && included
    loop
        execute format(statement, role);
    end loop;
    if what = 'dispatcher' then
        for slot in 0..15 loop
            execute format('grant select on webhook.event_%s to %s', slot, role);
            execute format('grant select, insert on webhook.attempt_%s to %s', slot, role);
        end loop;
    end if;
end
$$;
comment on function @extschema@.webhook_grant is
    'Grants a role the privileges of a publisher, subscriber, reader, dispatcher or admin (admin includes the first three)';

do $$
declare
    member regprocedure;
begin
    for member in
        select p.oid::regprocedure from pg_depend d
        join pg_extension x on x.oid = d.refobjid and x.extname = 'pg_webhook'
        join pg_proc p on p.oid = d.objid
        where d.refclassid = 'pg_extension'::regclass and d.classid = 'pg_proc'::regclass and d.deptype = 'e'
    loop
        execute format('revoke all on routine %s from public', member);
    end loop;
end
$$;
revoke all on all tables in schema webhook from public;
revoke all on all sequences in schema webhook from public;

-- Last: everything has been made.
select webhook.note_own_parts();
