-- A row has one spelling, with any settings of the writing session.
begin;
create schema app;
create type app.span as (begins timestamptz, length interval, ratio float8, day daterange);
create type app.celsius as enum ('cold', 'warm');
create function app.celsius_json(app.celsius) returns json language plpgsql as $$
begin
    -- The settings that the function began with stay in effect.
    perform app.local_time();
    return json_build_object('is', $1::text, 'now', timestamptz '2026-01-01 12:00+00', 'zone', current_setting('timezone'));
end
$$;
create function app.local_time() returns text language sql set timezone = 'Asia/Tokyo'
    return (timestamptz '2026-01-01 12:00+00')::text;
create cast (app.celsius as json) with function app.celsius_json(app.celsius);
create domain app.moment as timestamptz;
create table app.thing (
    id int primary key, at timestamptz, moment app.moment, ats timestamptz[], period tstzrange, periods tstzmultirange, days daterange,
    day date, local timestamp, clock time, clock_tz timetz, length interval, lengths interval[], bin bytea, bins bytea[],
    f4 float4, f8 float8, f8s float8[], place point, area box, span app.span, spans app.span[], rel regclass, rels regclass[], typ regtype,
    fun regprocedure, role regrole, warm app.celsius, doc json, docb jsonb
);
select noun from webhook_watch('app.thing', noun => 'thing');

-- One row: inserted, updated and deleted.
create procedure app.write() language sql as $$
    insert into app.thing values (
        1, '2026-07-01 12:00+00', '2026-07-01 12:00+00', '{2026-07-01 12:00+00,infinity}', '[2026-07-01 12:00+00,2026-08-01 12:00+00)',
        '{[2026-07-01 12:00+00,2026-08-01 12:00+00)}', '[2026-07-01,2026-08-01)',
        '2026-07-01', '2026-07-01 12:00', '12:00:01.5', '12:00+05:45', '1 year 2 days -03:04:05.6', '{1 day}', '\x00ff5c', '{"\\x00ff"}',
        0.1::float4 + 0.2::float4, 0.1::float8 + 0.2, '{0.30000000000000004}', point(0.1::float8 + 0.2, 1), box '(0.30000000000000004,1),(0,0)',
        row ('2026-07-01 12:00+00', '1 day 02:00', 0.1::float8 + 0.2, '[2026-07-01,2026-08-01)'),
        array[row ('2026-07-01 12:00+00', '1 day 02:00', 0.1::float8 + 0.2, null)]::app.span[],
        'app.thing', '{app.thing,pg_class}', 'app.celsius', 'app.local_time()', 'pg_monitor', 'warm',
        '{"at" : "2026-07-01 12:00+00"}', '{"n": 1.50}');
    update app.thing set at = at + '1 s', ats = null, length = '1 day', bin = '\xff', f8 = 1, place = '(1,1)', span = null, rel = 'pg_class', warm = 'cold';
    delete from app.thing
$$;
call app.write();
select payload from webhook.event where type = 'thing.created';
select previous from webhook.event where type = 'thing.updated';

set local timezone = 'America/St_Johns';
set local datestyle = 'SQL, DMY';
set local intervalstyle = 'sql_standard';
set local bytea_output = 'escape';
set local extra_float_digits = -15;
set local search_path = app, public;
set local quote_all_identifiers = on;
call app.write();
set local datestyle = 'German';
set local intervalstyle = 'postgres_verbose';
set local extra_float_digits = 3;
set local search_path = '';
call app.write();
-- The session's own settings are unchanged.
select current_setting('timezone'), current_setting('datestyle'), current_setting('intervalstyle'), current_setting('bytea_output'),
       current_setting('extra_float_digits'), current_setting('search_path'), current_setting('quote_all_identifiers');
select timestamptz '2026-07-01 12:00+00', interval '1 year 2 days', '\x00ff'::bytea, 0.1::float8 + 0.2, 'app.thing'::regclass;
reset all;
select type, count(*), count(distinct payload::text) as payloads, count(distinct previous::text) as previous
from webhook.event group by type order by type;
delete from webhook.event;

-- A payload function runs with the same settings. Its own SET clause and its own changes of
-- settings stay in effect.
create function app.thing_json(t app.thing) returns json language plpgsql as $$
begin
    perform app.local_time();
    return json_build_object('at', t.at::text, 'length', t.length, 'f8', t.f8::text, 'bin', t.bin::text, 'zone', current_setting('timezone'),
        'style', current_setting('intervalstyle'), 'path', current_setting('search_path'));
end
$$;
select noun from webhook_watch('app.thing', noun => 'thing', payload => 'app.thing_json');
call app.write();
set local timezone = 'America/St_Johns';
set local datestyle = 'SQL, DMY';
set local intervalstyle = 'sql_standard';
set local bytea_output = 'escape';
set local extra_float_digits = -15;
call app.write();
select current_setting('timezone'), current_setting('datestyle'), current_setting('intervalstyle'), current_setting('bytea_output'),
       current_setting('extra_float_digits');
reset all;
select type, count(*), count(distinct payload::text) as payloads, count(distinct previous::text) as previous
from webhook.event group by type order by type;
select payload from webhook.event where type = 'thing.created' limit 1;
rollback;

-- An error in the middle leaves the settings unchanged.
begin;
create type mood as enum ('fine');
create function mood_json(mood) returns json language plpgsql set extra_float_digits = 0 set bytea_output = 'escape' as $$
begin
    raise exception 'no mood';
end
$$;
create cast (mood as json) with function mood_json(mood);
create table failing (id int primary key, f float8, bin bytea, mood mood, moods mood[], at timestamptz);
create function failing_json(f failing) returns json language plpgsql as $$ begin raise exception 'no JSON'; end $$;
set local timezone = 'America/St_Johns';
set local intervalstyle = 'sql_standard';
set local bytea_output = 'escape';
set local extra_float_digits = -15;
select noun from webhook_watch('failing');
do $$
begin
    insert into failing values (1, 0.1, '\x00ff', 'fine', null, now());
exception when raise_exception then
    raise notice '%', sqlerrm;
end
$$;
do $$
begin
    insert into failing values (1, 0.1, '\x00ff', null, '{fine}', now());
exception when raise_exception then
    raise notice '%', sqlerrm;
end
$$;
select noun from webhook_watch('failing', payload => 'failing_json');
do $$
begin
    insert into failing values (1, 0.1);
exception when raise_exception then
    raise notice '%', sqlerrm;
end
$$;
select current_setting('timezone'), current_setting('intervalstyle'), current_setting('bytea_output'), current_setting('extra_float_digits');
select timestamptz '2026-07-01 12:00+00', interval '1 year 2 days', '\x00ff'::bytea, 0.1::float8 + 0.2;
rollback;
