-- Documentation of events, last part: the functions for receivers. They read the system catalog
-- when they are called.

-- -- What receivers are given ---------------------------------------------------------------------

-- The public functions are in extension/src/documentation.rs. They run as their callers, decide
-- whether these may see all types (webhook.sees_all_types), and call the functions here as the
-- extension's owner, because schema and watches are not public.

-- What owners read about a type without a description by hand. They do not see names of tables.
create function webhook.comments_of(event_type text) returns text
    language sql stable set search_path = pg_catalog, pg_temp
    return (select string_agg(distinct obj_description(s.relation, 'pg_class'), E'\n') from webhook.sources(event_type) s);
comment on function webhook.comments_of(text) is 'The comments of the watched tables that emit an event type';

-- Event types with their descriptions; a description that a user has written comes first.
create function webhook.described_types(all_types boolean) returns table (type text, description text)
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select t.type, case when t.description is distinct from t.derived then t.description
                        when all_types then webhook.derived_description(t.type)
                        else webhook.comments_of(t.type) end
    from webhook.event_type t
    where all_types or webhook.is_offered(t.type);
end;
comment on function webhook.described_types(boolean) is
    'Event types with their current descriptions; all_types false: only those that are offered to owners';

-- Expensive parts are computed once for each type.
create function webhook.exemplified_event_types(events text[], all_types boolean) returns table (type text, description text, schema json, example json)
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    with described as materialized (
        select t.type, t.description, webhook.body_schema(t.type) as schema
        from webhook.described_types(all_types) t
        where webhook.pattern_matches(coalesce(events, '{*}'), t.type))
    select d.type, d.description, d.schema, webhook.body_example(d.type, d.schema) from described d;
end;
comment on function webhook.exemplified_event_types(text[], boolean) is 'The event types that match the patterns, with schema and example of a body in format standard';

create function webhook.check_event_type(event_type text, all_types boolean) returns text
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    if event_type is null then
        raise exception using errcode = 'null_value_not_allowed', message = 'event_type must not be null',
            hint = 'Pass an event type that webhook.event_type lists.';
    elsif not webhook.is_offered(event_type)
          and not (all_types and (exists (select from webhook.event_type t where t.type = event_type)
                                  or exists (select from webhook.sources(event_type)))) then
        raise exception using errcode = 'undefined_object', message = format('event type "%s" does not exist', event_type),
            hint = 'webhook.event_type lists the event types. For a type that the application emits itself, add a row there.';
    end if;
    return event_type;
end
$$;
comment on function webhook.check_event_type(text, boolean) is 'Raises an error if the event type is unknown, or not offered to the caller';

create function webhook.documented_schema(event_type text, all_types boolean) returns json
    language sql stable set search_path = pg_catalog, pg_temp
    return (select ('{"$schema":"https://json-schema.org/draft/2020-12/schema","title":' || to_json(event_type)::text
                    || case when s.schema = '{}' then '}' else ',' || substr(s.schema, 2) end)::json
            from (select webhook.data_schema(webhook.check_event_type(event_type, all_types))::text) as s (schema));
comment on function webhook.documented_schema(text, boolean) is 'webhook_event_schema()';

create function webhook.documented_example(event_type text, all_types boolean) returns json
    language sql stable set search_path = pg_catalog, pg_temp
    return webhook.data_example(webhook.check_event_type(event_type, all_types));
comment on function webhook.documented_example(text, boolean) is 'webhook_event_example()';

-- The head of both documents. The version changes with the contents.
create function webhook.documentation_info(content json) returns json
    language sql stable set search_path = pg_catalog, pg_temp
    return json_build_object(
        'title', format('Events of %s', current_database()),
        'version', left(encode(sha256(webhook.exact_utf8(content::text)), 'hex'), 12),
        'description', 'Sent as signed POST requests (Standard Webhooks), at least once: deduplicate by webhook-id. '
            || 'Members may be added; ignore those that you do not know.');
comment on function webhook.documentation_info(json) is 'The member "info" of a document with this content';

create function webhook.header_schemas() returns json
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    return json '{"webhook-id":{"type":"string","description":"The event: the same for every attempt to deliver it","examples":["evt_0660d5342ff8402a"]},'
        '"webhook-timestamp":{"type":"string","pattern":"^[0-9]+$","description":"When this attempt was made, in seconds since 1970","examples":["1795318680"]},'
        '"webhook-signature":{"type":"string","description":"v1, and the base64 of HMAC-SHA256 over webhook-id.webhook-timestamp.body; several, separated by a space, while a secret is being replaced","examples":["v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="]}}';
comment on function webhook.header_schemas() is 'JSON Schemas of the headers of every webhook';

create function webhook.documented_openapi(events text[], all_types boolean) returns json
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    webhooks json;
    schemas json;
    parameters json;
    components json;
begin
    select webhook.json_members(
               coalesce(array_agg(t.type order by t.type), '{}'),
               coalesce(array_agg(json_build_object('post', webhook.json_members(
                   '{operationId,summary,description,tags,parameters,requestBody,responses}', array[
                   to_json(t.type), to_json(t.type), to_json(t.description),
                   json_build_array(regexp_replace(t.type, '\.[^.]*$', '')),
                   '[{"$ref":"#/components/parameters/webhook-id"},{"$ref":"#/components/parameters/webhook-timestamp"},{"$ref":"#/components/parameters/webhook-signature"}]',
                   json_build_object('required', true, 'content', json_build_object('application/json', json_build_object(
                       'schema', json_build_object('$ref', '#/components/schemas/' || t.type),
                       'example', t.example))),
                   '{"2XX":{"$ref":"#/components/responses/accepted"},"410":{"$ref":"#/components/responses/gone"},'
                   '"429":{"$ref":"#/components/responses/slower"},"default":{"$ref":"#/components/responses/failed"}}']))
                   order by t.type), '{}')),
           webhook.json_members(coalesce(array_agg(t.type order by t.type), '{}'),
                                coalesce(array_agg(t.schema order by t.type), '{}'))
        into webhooks, schemas
        from webhook.exemplified_event_types(events, all_types) t;
    select webhook.json_members(array_agg(h.key order by h.at), array_agg(json_build_object(
               'name', h.key, 'in', 'header', 'required', true, 'schema', h.value) order by h.at))
        into parameters
        from json_each(webhook.header_schemas()) with ordinality as h (key, value, at);
    components := webhook.json_members('{schemas,parameters,responses}', array[schemas, parameters,
        '{"accepted":{"description":"Delivered. The body of the answer does not matter"},'
        '"gone":{"description":"The receiver is gone. The subscription is disabled at once"},'
        '"slower":{"description":"Tried again on the schedule, and sent to more slowly from then on",'
        '"headers":{"Retry-After":{"description":"Not before: seconds, or a date; at most 24 hours","schema":{"type":"string"}}}},'
        '"failed":{"description":"Failed, and tried again on the schedule: with 5xx and 4xx as with a redirect, which is not followed"}}']);
    return webhook.json_members('{openapi,info,webhooks,components}', array[
        json '"3.1.0"', webhook.documentation_info(webhook.json_elements(array[webhooks, components])), webhooks, components]);
end
$$;
comment on function webhook.documented_openapi(text[], boolean) is 'webhook_openapi()';

create function webhook.documented_asyncapi(events text[], all_types boolean) returns json
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    messages json;
    channel_messages json;
    channels json;
    operations json;
begin
    select webhook.json_members(
               coalesce(array_agg(t.type order by t.type), '{}'),
               coalesce(array_agg(webhook.json_members('{name,title,description,contentType,headers,payload,examples}', array[
                   to_json(t.type), to_json(t.type), to_json(t.description), '"application/json"',
                   webhook.schema_of('object', false, '{properties,required}', array[
                       webhook.header_schemas(), '["webhook-id","webhook-timestamp","webhook-signature"]']),
                   t.schema,
                   case when json_typeof(t.example) = 'object' then json_build_array(json_build_object('payload', t.example)) end]) order by t.type), '{}')),
           webhook.json_members(coalesce(array_agg(t.type order by t.type), '{}'),
               coalesce(array_agg(json_build_object('$ref', '#/components/messages/' || t.type) order by t.type), '{}'))
        into messages, channel_messages
        from webhook.exemplified_event_types(events, all_types) t;
    channels := json_build_object('webhooks', webhook.json_members('{address,description,messages}', array[
        json 'null', '"The URL of a subscription"', channel_messages]));
    operations := '{"sendEvent":{"action":"send","channel":{"$ref":"#/channels/webhooks"},'
                  '"summary":"An event is sent to each subscription that it matches","bindings":{"http":{"method":"POST"}}}}';
    return webhook.json_members('{asyncapi,info,defaultContentType,channels,operations,components}', array[
        json '"3.0.0"', webhook.documentation_info(webhook.json_elements(array[messages, channels])), '"application/json"',
        channels, operations, json_build_object('messages', messages)]);
end
$$;
comment on function webhook.documented_asyncapi(text[], boolean) is 'webhook_asyncapi()';

-- -- What callers use: documentation.rs -----------------------------------------------------------

create function webhook.described_event_types() returns table (type text, description text)
    language c stable parallel unsafe
    as 'MODULE_PATHNAME', 'described_event_types_wrapper';
comment on function webhook.described_event_types() is 'The event types that the caller sees, with their current descriptions';

create function @extschema@.webhook_event_schema(event_type text) returns json
    language c stable parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_event_schema_wrapper';
comment on function @extschema@.webhook_event_schema is
    'JSON Schema of "data" of an event type, from the current system catalog';

create function @extschema@.webhook_event_example(event_type text) returns json
    language c stable parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_event_example_wrapper';
comment on function @extschema@.webhook_event_example is 'An example of "data" of an event type';

create function @extschema@.webhook_openapi(events text[] default '{*}') returns json
    language c stable parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_openapi_wrapper';
comment on function @extschema@.webhook_openapi is
    'The events as an OpenAPI 3.1 document (member webhooks), from the current system catalog';

create function @extschema@.webhook_asyncapi(events text[] default '{*}') returns json
    language c stable parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_asyncapi_wrapper';
comment on function @extschema@.webhook_asyncapi is
    'The events as an AsyncAPI 3 document, from the current system catalog';
