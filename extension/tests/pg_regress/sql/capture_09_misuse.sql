-- Calls and triggers that are not allowed.
begin;
create table t (id int primary key);
savepoint s;
select webhook.capture();
rollback to s;
create trigger t before insert on t for each row execute function webhook.capture('{"noun": "t", "verbs": {}}');
insert into t values (1);
rollback to s;
create trigger t after insert on t for each statement execute function webhook.capture('{"noun": "t", "verbs": {}}');
insert into t values (1);
rollback to s;
create trigger t after insert on t for each row execute function webhook.capture();
insert into t values (1);
rollback to s;
create trigger t after insert on t for each row execute function webhook.capture('{"noun": 1}');
insert into t values (1);
rollback to s;
create trigger t after insert on t for each row execute function webhook.capture('not json');
insert into t values (1);
rollback to s;
create trigger t after insert on t for each row execute function webhook.capture('{"noun": "T t", "verbs": {"insert": "made"}}');
insert into t values (1);
rollback to s;
create trigger t after insert on t for each row execute function webhook.capture('{"noun": "webhook.x", "verbs": {"insert": "made"}}');
insert into t values (1);
rollback to s;
create trigger t after insert on t for each row execute function webhook.capture('{"noun": "t", "verbs": {}}');
insert into t values (1);
select count(*) from webhook.event;
rollback;

-- A view's INSTEAD OF trigger.
begin;
create view v as select 1 as id;
create trigger t instead of insert on v for each row execute function webhook.capture('{"noun": "t", "verbs": {}}');
insert into v values (1);
rollback;

-- Errors of the application keep all their fields when they pass through the hooks.
begin;
create table u (id int constraint my_key primary key, name text constraint my_check check (name <> 'x'));
call by_hand.watch('u');
insert into u values (1, 'a');
do $$
declare
    c text; t text; s text; col text; ctx text;
begin
    begin
        insert into u values (1, 'b');
    exception when unique_violation then
        get stacked diagnostics c = constraint_name, t = table_name, s = schema_name, ctx = pg_exception_context;
        raise notice '% % % %', s, t, c, ctx;
    end;
    begin
        execute 'copy u from program ''false''';
    exception when others then
        raise notice '% %', sqlstate, sqlerrm;
    end;
    begin
        execute 'alter table u add constraint my_check check (true)';
    exception when duplicate_object then
        get stacked diagnostics ctx = pg_exception_context;
        raise notice '% %', sqlerrm, ctx;
    end;
end
$$;
select id, 1 / 0 from u;
rollback;
