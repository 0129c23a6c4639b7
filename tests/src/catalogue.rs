//! Reads all facts about the extension from the system catalog, one line each, so that two
//! databases can be compared.

use crate::cluster::Database;
use std::{collections::BTreeSet, fmt::Write as _};

/// The extension's relations and everything in the system catalog that depends on them. Columns are
/// given by their place among the existing ones. Rights are given in full, since an upgraded table
/// spells out the rights that a fresh one leaves to the default.
const FACTS: &str = r#"
with member as (
    select d.classid, d.objid from pg_depend d join pg_extension x on x.oid = d.refobjid and x.extname = 'pg_webhook'
    where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e'
), relation as (
    select c.* from member m join pg_class c on m.classid = 'pg_class'::regclass and c.oid = m.objid
), held as (
    select format('relation %s', r.oid::regclass) as what, 'rights' as of, r.relacl as acl,
           acldefault(case r.relkind when 'S' then 's' else 'r' end::"char", r.relowner) as usual from relation r
    union all
    select format('column %s.%I', r.oid::regclass, a.attname), 'rights', a.attacl, '{}' from relation r join pg_attribute a on a.attrelid = r.oid
    where a.attacl is not null and not a.attisdropped
    union all
    select format('function %s', p.oid::regprocedure), 'rights', p.proacl, acldefault('f', p.proowner)
    from member m join pg_proc p on m.classid = 'pg_proc'::regclass and p.oid = m.objid
    union all
    select format('schema %I', n.nspname), 'rights', n.nspacl, acldefault('n', n.nspowner)
    from member m join pg_namespace n on m.classid = 'pg_namespace'::regclass and n.oid = m.objid
    union all
    -- What pg_dump leaves out, since the script of the extension gives it.
    select pg_describe_object(i.classoid, i.objoid, i.objsubid), 'rights from the script', i.initprivs, '{}'
    from member m join pg_init_privs i on i.classoid = m.classid and i.objoid = m.objid
    where exists (select from aclexplode(i.initprivs) a where a.grantee <> 10)
)
select format('member: %s', pg_describe_object(m.classid, m.objid, 0)) from member m
union all
select format('relation %s: kind %s%s%s%s, options %s, partition %s', r.oid::regclass, r.relkind, case when r.relrowsecurity then ', row security' end,
              case when r.relforcerowsecurity then ' forced' end, case when r.relreplident = 'f' then ', replica identity full' end, array(select unnest(r.reloptions) order by 1), pg_get_expr(r.relpartbound, r.oid))
from relation r
union all
select format('column %s.%s %I: %s%s%s%s%s', r.oid::regclass, row_number() over (partition by r.oid order by a.attnum), a.attname,
              format_type(a.atttypid, a.atttypmod), case when a.attnotnull then ' not null' end, ' default ' || pg_get_expr(d.adbin, d.adrelid),
              nullif(' identity ' || a.attidentity::text, ' identity '), nullif(' generated ' || a.attgenerated::text, ' generated '))
from relation r join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
left join pg_attrdef d on d.adrelid = r.oid and d.adnum = a.attnum
where r.relkind <> 'S'
union all
select format('sequence %s: %s', r.oid::regclass, (select to_jsonb(s) - 'seqrelid' from pg_sequence s where s.seqrelid = r.oid)) from relation r where r.relkind = 'S'
union all
select format('index: %s', pg_get_indexdef(i.indexrelid)) from relation r join pg_index i on i.indrelid = r.oid
union all
select format('constraint %s %I: %s%s', r.oid::regclass, k.conname, pg_get_constraintdef(k.oid), case when not k.convalidated then ' not valid' end)
from relation r join pg_constraint k on k.conrelid = r.oid
union all
select format('trigger %s: %s, enabled %s', r.oid::regclass, pg_get_triggerdef(t.oid), t.tgenabled)
from relation r join pg_trigger t on t.tgrelid = r.oid and not t.tgisinternal
union all
select format('policy %s %I: %s%s%s%s to %s', r.oid::regclass, p.polname, p.polcmd, case when p.polpermissive then ' permissive' end,
              ' using ' || pg_get_expr(p.polqual, p.polrelid), ' check ' || pg_get_expr(p.polwithcheck, p.polrelid), p.polroles)
from relation r join pg_policy p on p.polrelid = r.oid
union all
select format('view %s: %s', r.oid::regclass, pg_get_viewdef(r.oid)) from relation r where r.relkind = 'v'
union all
select format('function %s', pg_get_functiondef(m.objid)) from member m where m.classid = 'pg_proc'::regclass
union all
select format('event trigger %I: on %s when %s do %s, enabled %s', e.evtname, e.evtevent, e.evttags, e.evtfoid::regprocedure, e.evtenabled)
from member m join pg_event_trigger e on m.classid = 'pg_event_trigger'::regclass and e.oid = m.objid
union all
select format('comment on %s: %s', pg_describe_object(d.classoid, d.objoid, d.objsubid), d.description)
from pg_description d
where exists (select from member m where m.classid = d.classoid and m.objid = d.objoid)
   or (d.classoid = 'pg_policy'::regclass and exists (select from pg_policy p join relation r on r.oid = p.polrelid where p.oid = d.objoid))
   or (d.classoid = 'pg_extension'::regclass and d.objoid = (select oid from pg_extension where extname = 'pg_webhook'))
union all
select format('%s of %s: %s %s%s', h.of, h.what, coalesce(r.rolname, 'PUBLIC'), a.privilege_type, case when a.is_grantable then ' with grant option' end)
from held h cross join lateral aclexplode(coalesce(h.acl, h.usual)) a left join pg_roles r on r.oid = a.grantee
-- A right that later versions of Postgres add, or the superuser's own, says nothing.
where r.rolname is distinct from 'postgres'
union all
select format('a dump carries %s %s', u.relation::regclass, nullif(u.condition, ''))
from pg_extension x cross join lateral unnest(x.extconfig, x.extcondition) as u (relation, condition) where x.extname = 'pg_webhook'
union all
select format('version %s, schema %s, relocatable %s', x.extversion, x.extnamespace::regnamespace, x.extrelocatable) from pg_extension x where x.extname = 'pg_webhook'
"#;

/// Returns one line for every object that belongs to the extension.
///
/// # Panics
/// If the system catalog cannot be read.
pub async fn facts(database: &Database) -> BTreeSet<String> {
    let client = database.client().await;
    // Postgres then prints names in full, independent of the extension's schema.
    client.batch_execute("set search_path = pg_catalog").await.expect("it can be set");
    let rows = client.query(FACTS, &[]).await.expect("the system catalog can be read");
    rows.iter().map(|row| row.get::<_, String>(0)).collect()
}

/// Returns the facts that only one of the two has, as lines with `-` and `+`; empty if both are
/// equal.
pub fn difference(expected: &BTreeSet<String>, found: &BTreeSet<String>) -> String {
    let mut lines = String::new();
    for (sign, only) in [('-', expected.difference(found)), ('+', found.difference(expected))] {
        for fact in only {
            let mut parts = fact.lines();
            let _ = writeln!(lines, "{sign} {}", parts.next().unwrap_or_default());
            for more in parts {
                let _ = writeln!(lines, "{sign}     {more}");
            }
        }
    }
    lines
}
