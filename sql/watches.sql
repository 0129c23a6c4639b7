-- Watched tables and event types. Capture takes its instructions from the argument of the triggers,
-- and not from these rows.

create table webhook.watch (
    relation    regclass    primary key,
    noun        text        not null,
    verbs       jsonb       not null,
    columns     text[],
    exclude     text[],
    on_columns  text[],
    condition   text,
    payload     text,
    key_columns text[]      not null,
    created_at  timestamptz not null default now(),
    numbered_for oid[]      not null default '{}',
    owner_column   text,
    owner_function text,
    owner_setting  text,
    constraint noun_has_one_or_two_segments check (noun ~ '^[a-z0-9_]+(\.[a-z0-9_]+)?$'),
    constraint columns_or_exclude_not_both check (columns is null or exclude is null),
    constraint at_most_one_source_of_owners check (num_nonnulls(owner_column, owner_function, owner_setting) <= 1)
);
comment on table webhook.watch is 'Watched tables, with the arguments of webhook_watch(); the argument of the triggers contains the same';
-- Not regproc: pg_upgrade rejects a database with such a column.
comment on column webhook.watch.payload is 'Qualified name of the function from the row type to json or jsonb';
-- Plain numbers: a restore changes the OIDs of tables and keeps these numbers. So capture can
-- recognize a restored table.
comment on column webhook.watch.numbered_for is
    'OIDs of the table and its child tables when webhook_watch() was called; the column numbers in their triggers are valid only for these tables';
comment on column webhook.watch.owner_column is 'Column whose text is the owner of each event';
comment on column webhook.watch.owner_function is 'Qualified name of the function from the row type to text that returns the owner of each event';
comment on column webhook.watch.owner_setting is 'Setting of the session that holds the owner of each event, such as app.tenant_id';
-- The tables that emit an event type (webhook.sources): "noun = $1".
create index watch_noun_idx on webhook.watch (noun);

create table webhook.detached_partition (
    relation    regclass    primary key,
    root        regclass    not null,
    detached_at timestamptz not null default now()
);
comment on table webhook.detached_partition is
    'Former partitions of watched tables, which are no longer captured; a row is removed when its table is watched, attached or dropped, or by webhook_unwatch()';

create table webhook.event_type (
    type        text     primary key,
    relation    regclass,
    description text,
    derived     text,
    data_schema json,
    example     json,
    internal    boolean not null default false,
    constraint type_is_noun_verb check (length(type) <= 200 and type ~ '^[a-z0-9_]+(\.[a-z0-9_]+){1,2}$'),
    constraint data_schema_is_an_object check (json_typeof(data_schema) = 'object')
);
-- Tables with internal types: "internal".
create index event_type_internal_idx on webhook.event_type (relation) where internal;
comment on table webhook.event_type is
    'Event types: those of watches, and those entered by hand for events that the application emits itself';
comment on column webhook.event_type.relation is 'A table whose watch emits it; null: entered by hand';
comment on column webhook.event_type.description is
    'Description for receivers; follows the watch and the table''s comment until a user changes it';
comment on column webhook.event_type.derived is 'The description that follows from the watch';
comment on column webhook.event_type.data_schema is
    'JSON Schema of "data", entered by hand. Null: derived from the system catalog where possible. See webhook_event_schema()';
comment on column webhook.event_type.example is
    'Example of "data", entered by hand; null: derived from the schema. See webhook_event_example()';
comment on column webhook.event_type.internal is
    'true: only subscriptions with scope all get events of this type, and owners do not see the type; webhook_watch() and webhook_unwatch() keep the value';
