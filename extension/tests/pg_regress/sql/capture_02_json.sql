-- Payloads equal row_to_json's output in UTC and with the other canonical settings, byte for byte,
-- with any settings of the writer.
begin;
create extension hstore;
create extension citext;
create type mood as enum ('sad', 'ok', 'it''s "quoted"\');
create type point3 as (x int, y numeric, label text);
create type nested as (inside point3, list point3[]);
create domain positive as int check (value > 0);
create domain short_text as varchar(10);
create domain moods as mood[];
create domain some_json as jsonb;
create domain day as date;
set local client_min_messages = warning;
create type temperature;
create function temperature_in(cstring) returns temperature language internal immutable strict as 'float8in';
create function temperature_out(temperature) returns cstring language internal immutable strict as 'float8out';
create type temperature (input = temperature_in, output = temperature_out, like = float8);
reset client_min_messages;
create cast (temperature as float8) without function;
create function temperature_json(t temperature) returns json language sql immutable
    as $$ select json_build_object('celsius', $1::float8) $$;
create cast (temperature as json) with function temperature_json(temperature);

create table wide (
    id int primary key,
    b bool, i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, n numeric, n2 numeric(12, 3), m money,
    t text, v varchar(20), c char(8), q "char", nm name, ba bytea, u uuid,
    d date, ti time, tz timetz, ts timestamp, tstz timestamptz, iv interval,
    j json, jb jsonb, x xml,
    net inet, cid cidr, mac macaddr, bits bit(5), vb varbit, p point, bx box, tsv tsvector, lsn pg_lsn, rc regclass,
    r int4range, mr datemultirange, o oid,
    ai int[], at text[], an numeric[], ad date[], aa int[][], ab bool[], aj jsonb[],
    e mood, ae mood[], co point3, ne nested, aco point3[],
    dp positive, dt short_text, dm moods, dj some_json, dd day,
    h hstore, ci citext, te temperature, ate temperature[],
    g int generated always as (i4 / 2) stored, g2 text generated always as (t || '!') stored,
    "a ""strange"" \name	é" text
);
call by_hand.watch('wide', '{"noun": "wide"}');
set local timezone = 'Asia/Kathmandu';
set local datestyle = 'SQL, DMY';
set local intervalstyle = 'iso_8601';
set local bytea_output = 'escape';
set local extra_float_digits = -3;

insert into wide (id) values (1);
insert into wide (id, b, i2, i4, i8, f4, f8, n, n2, m, t, v, c, q, nm, ba, u, d, ti, tz, ts, tstz, iv, j, jb, x,
    net, cid, mac, bits, vb, p, bx, tsv, lsn, rc, r, mr, o, ai, at, an, ad, aa, ab, aj, e, ae, co, ne, aco,
    dp, dt, dm, dj, dd, h, ci, te, ate, "a ""strange"" \name	é")
values (2, true, -32768, -2147483648, -9223372036854775808, 1.5e-10, 1e300, 123456789012345678901234567890.123456789,
    -0.5, -12.34, e'ctrl \x01\x02\x1f\x7f tab\t nl\n cr\r bs\b ff\f "q" \\ / ü € 😀', 'x"y', 'pad', 'z', 'n"m',
    '\x00ff22', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '2026-01-02', '03:04:05.678', '03:04:05+05:45',
    '2026-01-02 03:04:05.678901', '2026-01-02 03:04:05+00', '1 year -2 days 03:04:05.6',
    '{"a" : 1, "a":2,   "s":"\u0041"}', '{"b":1,"a":[1, 2]}', '<a b="c">"d"</a>',
    '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03', '10101', '110', '(1,2)', '(1,1),(0,0)', 'a:1 b:2', '0/16B3748',
    'pg_class', '[1,10)', '{[2026-01-01,2026-02-01)}', 42,
    '{1,null,3}', '{"a\"b",null,"null",""}', '{1.0,NaN}', '{2026-01-01,infinity}', '{{1,2},{3,4}}', '{t,f}',
    array['{"k": "v"}'::jsonb],
    'it''s "quoted"\', array['sad', 'ok']::mood[], row (1, 2.50, 'l"'), row (row (1, null, ''), array[row (2, 1, 'x')]::point3[]),
    array[row (1, 2, 'a'), null, row (null, null, null)]::point3[],
    7, 'short', array['sad']::mood[], '{"x": null}', '2026-03-04', 'a=>1, "b c"=>NULL', 'CiText', '36.6', array['1.5']::temperature[],
    'odd');

insert into wide (id, f4, f8, n, d, ts, tstz, t, ai, an, iv)
values (3, 'NaN', 'Infinity', 'NaN', 'infinity', '-infinity', 'infinity', '', '{}', '{Infinity,-Infinity}', '-1 month'),
       (4, '-Infinity', '-Infinity', '-Infinity', '0044-03-15 BC', '0044-03-15 12:00 BC', '0044-03-15 12:00+00 BC', ' ', '{}', '{}', '0'),
       (5, '-0', '-0', 'Infinity', '5874897-12-31', '294276-12-31 23:59:59.999999', '1900-01-01 00:00+00', repeat('ab"', 9000), null, null, null);
insert into wide (id, t, j, n, aco)
values (6, repeat('compressible ', 2000), json_build_object('k', repeat('v', 10000)), ('9' || repeat('0', 900) || '.5')::numeric,
        array_fill(row (1, 2, repeat('z', 50))::point3, array[100]));

-- No payload differs from these.
set local timezone = 'UTC';
set local datestyle = 'ISO';
set local intervalstyle = 'iso_8601';
set local bytea_output = 'hex';
set local extra_float_digits = 1;
select w.id, e.payload::text, row_to_json(w)::text
from webhook.event e join wide w on w.id = e.key::int where e.payload::text is distinct from row_to_json(w)::text;
select count(*) as compared from webhook.event e join wide w on w.id = e.key::int and e.payload::text = row_to_json(w)::text;
select payload from webhook.event where key = '2';
select payload->'f8', payload->'n', payload->'tstz', payload->'an' from webhook.event where key::int in (3, 4) order by id;
delete from webhook.event;

-- The same holds for previous, and for the default of a column that old rows do not hold.
update wide set b = false, t = 'now', n = 'NaN', te = '-1', e = 'sad', co = null, j = '{"a" : 1, "a":2,   "s":"\u0041" }' where id = 2;
select payload->'g2' as generated, previous from webhook.event;
delete from webhook.event;
alter table wide add column late timestamptz default '2026-05-05 05:05:05+00', add column later text default 'deflt';
update wide set i4 = 5 where id = 1;
select e.payload::text = row_to_json(w)::text as equal, payload->'late' as late, payload->'later' as later, previous
from webhook.event e join wide w on w.id = e.key::int;
delete from webhook.event;

-- Deletes print the old row.
create temp table gone as select id, row_to_json(w)::text as json from wide w;
delete from wide;
select count(*) as compared from webhook.event e join gone g on g.id = e.key::int and g.json = e.payload::text;
rollback;

-- A key has the same text with any settings of the session.
begin;
create domain moment as timestamptz;
create table keyed (at moment, period tstzrange, span interval, bin bytea, f float8, list timestamptz[], primary key (at, period, span, bin, f, list));
create table single (bin bytea primary key);
call by_hand.watch('keyed');
call by_hand.watch('single');
create procedure write_both() language sql as $$
    insert into keyed values ('2026-01-01 12:00+00', '[2026-01-01 12:00+00,2026-02-01 12:00+00)', '1 day 02:00', '\x00ff', 0.1::float8 + 0.2, '{2026-01-01 12:00+00}');
    insert into single values ('\x00ff');
    delete from keyed;
    delete from single
$$;
call write_both();
set local timezone = 'Asia/Kathmandu';
set local datestyle = 'german';
set local intervalstyle = 'sql_standard';
set local bytea_output = 'escape';
set local extra_float_digits = -3;
call write_both();
select type, key, count(*), count(distinct payload::text) as payloads from webhook.event group by type, key order by type;
-- The session's own settings are restored.
select payload from webhook.event where type = 'keyed.created' order by id desc limit 1;
select current_setting('timezone'), timestamptz '2026-01-01 12:00+00', interval '1 day 02:00', '\x00ff'::bytea, 0.1::float8 + 0.2;
rollback;

-- They are also restored if printing a key fails.
begin;
create type mood as enum ('fine');
create function mood_json(mood) returns json language plpgsql as $$ begin raise exception 'no mood'; end $$;
create cast (mood as json) with function mood_json(mood);
create table moody (mood mood, at timestamptz, primary key (mood, at));
select noun from webhook_watch('moody', columns => '{at}');
set local timezone = 'Asia/Kathmandu';
set local bytea_output = 'escape';
do $$
begin
    insert into moody values ('fine', '2026-01-01 12:00+00');
exception when raise_exception then
    raise notice '%', sqlerrm;
end
$$;
select timestamptz '2026-01-01 12:00+00', '\x00ff'::bytea;
rollback;
