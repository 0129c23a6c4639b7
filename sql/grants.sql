-- Rights: nothing to PUBLIC, and one call that gives a role what a part of the work needs.

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
        execute format('revoke all on function %s from public', member);
    end loop;
end
$$;
revoke all on all tables in schema webhook from public;
revoke all on all sequences in schema webhook from public;
