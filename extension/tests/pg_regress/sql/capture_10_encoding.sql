-- A database whose encoding is not UTF-8: names in the trigger's argument, and texts.
set client_encoding = 'UTF8';
create database latin1 template template0 encoding 'LATIN1' lc_collate 'C' lc_ctype 'C';
\c latin1
set client_encoding = 'UTF8';
create extension pg_webhook;
create table "Größen" (id int primary key, "größe" text, "geheim§" text);
create trigger webhook_insert after insert on "Größen" for each row execute function webhook.capture(
    '{"noun": "size", "verbs": {"insert": "created"}, "key": [{"name": "größe", "number": 2}],
      "exclude": [{"name": "geheim§", "number": 9}]}');
insert into "Größen" values (1, 'überlang "ÿ"', 'nie');
select table_name, key, payload from webhook.event;
select octet_length(key), payload::text = row_to_json(row)::text as equal
from webhook.event, (select id, "größe" from "Größen") as row;
\c regress
drop database latin1;
