-- A filter is a SQL/JSON path on the event. Conditions have the meaning of @@, other paths the
-- meaning of @?. No filter raises an error.
\encoding UTF8
begin;
set local client_min_messages = warning;
set local search_path = public;
\pset format unaligned
\pset tuples_only on
\set base 99000000000
insert into webhook.event (id, type, table_name, key, actor, origin, payload, previous) values
    (:base + 1, 'order.updated', 'public.orders', '17', 'user:7', 'erp', '{"total": 250.50, "paid": false, "name": "Zoë", "tags": ["a", "b"], "at": "2026-11-22T03:38:00+00:00"}', '{"total": 99}'),
    (:base + 2, 'invoice.paid', null, null, null, null, '{}', null),
    (:base + 3, 'note.added', null, 'n"1', null, null, '{"text": "a \u0000 b"}', null),
    (:base + 4, 'note.added', null, 'deep', null, null, (repeat('[', 3000) || repeat(']', 3000))::json, null),
    (:base + 5, 'note.added', null, 'huge', null, null, '{"n": 1e999999}', null),
    (:base + 6, 'note.added', null, 'twice', null, null, '{"a": 1, "a": 2}', null);

\echo -- every kind of condition, compared with the operators on the same object
create function pg_temp.object(e webhook.event) returns jsonb language sql return jsonb_strip_nulls(jsonb_build_object(
    'type', e.type, 'key', e.key, 'table', e.table_name, 'actor', e.actor, 'origin', e.origin, 'data', e.payload, 'previous', e.previous));
select f.path, webhook.filter_matches(e, f.path) as matches,
       coalesce(case when f.is_condition then pg_temp.object(e) @@ f.path else pg_temp.object(e) @? f.path end, false) = webhook.filter_matches(e, f.path) as agrees
from webhook.event e, (values
    ('$.data.total > 100'::jsonpath, true), ('$.data.total > 1000', true), ('$.data.total < 1000', true), ('$.data.total == 250.5', true),
    ('$.data.total <> 250.5', true), ('$.data.total >= 250.5', true), ('$.data.total <= 250.4', true),
    ('$.type == "order.updated" && $.origin == "erp"', true), ('$.key == "18" || $.actor starts with "user:"', true),
    ('!($.data.paid == true)', true), ('exists($.previous.total)', true), ('exists($.previous.name)', true), ('$.data.name like_regex "^zo" flag "i"', true),
    ('$.data.name starts with "x"', true), ('($.data.name > 5) is unknown', true), ('($.data.total > 5) is unknown', true),
    ('$.data.name > 5', true), ('$.data.none > 5', true), ('strict $.data.none > 5', true), ('$.data.at.datetime() > "2026-01-01T00:00:00+00:00".datetime()', true),
    ('$.data.total / 0 > 1', true), ('$.data.tags[*] == "b"', true), ('$.table == "public.orders"', true), ('$.truncated == true', true),
    ('$.data.paid', false), ('$.data.none', false), ('strict $.data.none', false), ('$.previous', false), ('$.data.tags[*] ? (@ == "b")', false),
    ('$.data.tags[*] ? (@ == "c")', false), ('$.data ? (@.total > 100 && @.paid == false)', false), ('($.data.total > 100).type()', false),
    ('$.data.total + 1', false), ('-$.data.total', false), ('$.data.tags.size()', false), ('$', false), ('$.**.total', false), ('true', false), ('null', false)
) as f (path, is_condition) where e.id = :base + 1;

\echo -- no filter lets everything through; missing members are absent, not null
select e.id - :base, webhook.filter_matches(e, null) as none, webhook.filter_matches(e, 'exists($.table)') as has_table, webhook.filter_matches(e, '$.key == null') as null_key,
       webhook.filter_matches(e, '$.keyvalue().key ? (@ == "previous")') as has_previous
from webhook.event e where e.id - :base between 1 and 2 order by e.id;

\echo -- an event that jsonb cannot hold, or on which the path fails, does not match
select e.id - :base, webhook.filter_matches(e, '$.type == "note.added"') as matches from webhook.event e where e.id - :base between 3 and 5 order by e.id;
select webhook.filter_matches(e, '$.data.a == 2') as the_last_counts, webhook.filter_matches(e, '$.data.a == 1') as the_first from webhook.event e where e.id = :base + 6;
select webhook.filter_matches(e, '$.data.total > $limit') as variable from webhook.event e where e.id = :base + 1;
select webhook.filter_matches(e, '$.data.at.datetime() > "2026-01-01T00:00:00".datetime()') as needs_a_time_zone from webhook.event e where e.id = :base + 1;
\echo -- the transaction continues, and events emitted meanwhile stay
select webhook_emit('a.b', json_build_object('matches', (select webhook.filter_matches(e, '$') from webhook.event e where e.id = :base + 3))) is not null;
select payload from webhook.event where type = 'a.b';

\echo -- a cancelled query fails: it does not count as a mismatch
savepoint s;
set local statement_timeout = 1;
select count(*) from webhook.event e, generate_series(1, 1000000) where webhook.filter_matches(e, '$.data.total > 100');
\echo :SQLSTATE
rollback to s;

\echo -- the planner inlines the function
create function pg_temp.plan(query text) returns setof text language plpgsql as $$ begin return query execute 'explain (verbose, costs off) ' || query; end $$;
select count(*) > 0 as inlined from pg_temp.plan('select from webhook.event e where webhook.filter_matches(e, ''$.data'')') line where line like '%path_matches(%.payload, %.previous)%';

\echo -- reasons: views, replay and dry run use the same rule
create function pg_temp.sub(id bigint, events text[], filter jsonpath default null, exclude_origin text[] default '{}', created pg_snapshot default '3:3:') returns webhook.subscription
    language sql return jsonb_populate_record(null::webhook.subscription, jsonb_build_object('id', id, 'scope', 'all', 'events', events, 'filter', filter::text, 'exclude_origin', exclude_origin, 'created_snapshot', created::text));
select coalesce(webhook.mismatch(e, pg_temp.sub(7, '{order.*}')), 'matches') as pattern,
       coalesce(webhook.mismatch(e, pg_temp.sub(7, '{*}', created => pg_current_snapshot())), 'matches') as same_transaction,
       coalesce(webhook.mismatch(e, pg_temp.sub(7, '{*}', created => '900000000:900000000:')), 'matches') as older,
       coalesce(webhook.mismatch(e, pg_temp.sub(7, '{*}', exclude_origin => '{crm,erp}')), 'matches') as origin,
       coalesce(webhook.mismatch(e, pg_temp.sub(7, '{*}', '$.data.total > 100')), 'matches') as filter
from webhook.event e where id - :base between 1 and 2 order by id;
update webhook.event set subscription_id = 8 where id = :base + 1;
update webhook.event set type = 'webhook.delivery.requested', subscription_id = 8 where id = :base + 2;
select coalesce(webhook.mismatch(e, pg_temp.sub(7, '{*}')), 'matches') as another, coalesce(webhook.mismatch(e, pg_temp.sub(8, '{none.such}', '$.no')), 'matches') as this_one from webhook.event e where id - :base between 1 and 2 order by id;

\echo -- the order key: the first eight bytes of SHA-256, signed
select ordering, e.key, webhook.order_key(ordering, e) from webhook.event e, unnest('{none,key,strict}'::text[]) ordering where e.id - :base in (2, 3) order by e.id, ordering;
update webhook.event set subscription_id = null, type = 'order.updated' where id - :base in (1, 2);
select key, table_name, webhook.order_key('key', e) = ('x' || left(encode(sha256(convert_to(coalesce(key, table_name, type), 'UTF8')), 'hex'), 16))::bit(64)::bigint as is_that
from webhook.event e where id - :base in (1, 2, 3) order by id;
\pset format aligned
\pset tuples_only off
rollback;
