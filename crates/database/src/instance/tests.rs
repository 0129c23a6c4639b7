//! Each decision about what is the same database and what is another, as docs/OPERATIONS.md states
//! it.

use crate::{Target, instance::*};
use proptest::prelude::*;

fn machine() -> Machine {
    Machine::sample("3f2a", false, None)
}

fn on(machine: &Machine, text: &str) -> Instance {
    let target: Target = text.parse().unwrap();
    Instance::derived(&target.config, target.config.get_dbname().unwrap(), machine)
}

fn instance(text: &str) -> Instance {
    on(&machine(), text)
}

fn is_same(armed: &str, later: &str) -> bool {
    instance(later).may_deliver_from(instance(armed).as_str())
}

#[test]
fn names_are_readable() {
    for (text, name) in [
        ("postgres://app@db.example.com/shop", "db.example.com:5432/shop"),
        ("postgres://app@b.example:5433,a.example:5434/shop", "a.example:5434,b.example:5433/shop"),
        ("host=b,a port=6432 user=u dbname=shop", "a:6432,b:6432/shop"),
        ("postgres://app@10.0.0.5/shop", "10.0.0.5:5432/shop"),
        ("host=2001:DB8::1 user=u dbname=shop", "[2001:db8::1]:5432/shop"),
        ("postgres://app@localhost:5433/shop", "localhost@3f2a:5433/shop"),
        ("host=/nowhere/run user=u dbname=shop", "/nowhere/run@3f2a:5432/shop"),
        ("host='/no where' user=u dbname='a/b,c d'", "/no%20where@3f2a:5432/a%2Fb%2Cc%20d"),
    ] {
        assert_eq!(instance(text).as_str(), name, "{text}");
    }
}

#[test]
fn the_password_and_the_role_are_not_in_it() {
    let name = instance("postgres://app:hunter2@db.example/shop?sslmode=disable&options=-c%20a=b");
    assert_eq!(name.as_str(), "db.example:5432/shop");
    assert!(is_same("postgres://app:hunter2@db.example/shop", "postgres://other:word@db.example/shop"));
}

#[test]
fn a_name_is_the_same_wherever_it_leads() {
    // A failover behind one name, and an address that has moved.
    assert!(is_same("postgres://app@db.example/shop", "postgres://app@DB.Example.:5432/shop"));
    let (here, there) = (machine(), Machine::sample("77aa", false, None));
    let url = "postgres://app@db.example/shop";
    assert_eq!(on(&here, url), on(&there, url), "daemons on several machines");
}

#[test]
fn an_address_is_the_same_address_only() {
    assert!(!is_same("postgres://app@10.0.0.5/shop", "postgres://app@10.0.0.6/shop"));
    assert!(!is_same("postgres://app@10.0.0.5/shop", "postgres://app@db.example/shop"));
    assert!(is_same("host=10.0.0.5 user=u dbname=shop", "host=::ffff:10.0.0.5 user=u dbname=shop"));
    let pinned = |address| format!("host=db.example hostaddr={address} user=u dbname=shop");
    assert!(!is_same(&pinned("10.0.0.5"), &pinned("10.0.0.6")), "hostaddr says where it leads");
    assert_eq!(instance(&pinned("10.0.0.5")).as_str(), "10.0.0.5:5432/shop");
}

#[test]
fn another_database_name_or_port_is_another_instance() {
    assert!(!is_same("postgres://app@db.example/shop", "postgres://app@db.example/shop_staging"));
    assert!(!is_same("postgres://app@db.example/shop", "postgres://app@db.example:5433/shop"));
    assert!(!is_same("postgres://app@localhost:5432/shop", "postgres://app@localhost:5433/shop"));
}

#[test]
fn of_a_list_none_that_it_was_armed_for_may_be_missing() {
    let armed = "postgres://app@a,b/shop";
    assert!(is_same(armed, "postgres://app@b,a/shop"), "the order does not count");
    assert!(is_same(armed, "postgres://app@b,a,a/shop"), "nor do repetitions");
    assert!(is_same(armed, "postgres://app@c,b,a/shop"), "a server has been added");
    assert!(is_same("postgres://app@a/shop", armed), "to a single one, too");
    for less in ["b", "a", "b,c"] {
        // It may be a standby that was detached to become a copy.
        assert!(!is_same(armed, &format!("postgres://app@{less}/shop")), "{less}");
    }
    assert!(!is_same(armed, "postgres://app@a,b/store"));
}

#[test]
fn loopback_and_sockets_are_other_servers_on_every_machine() {
    let there = Machine::sample("77aa", false, None);
    for text in [
        "postgres://app@localhost/shop",
        "postgres://app@127.0.0.1/shop",
        "host=::1 user=u dbname=shop",
        "host=/nowhere/run user=u dbname=shop",
    ] {
        assert_ne!(on(&there, text), instance(text), "{text}");
        assert!(!on(&there, text).may_deliver_from(instance(text).as_str()), "{text}");
    }
    let local = instance("postgres://app@localhost/shop");
    for same in [
        "127.0.0.1",
        "::1",
        "LOCALHOST.",
        "localhost.localdomain",
        "db.localhost",
        "0.0.0.0",
        "::ffff:127.0.0.1",
    ] {
        assert_eq!(instance(&format!("host={same} user=u dbname=shop")), local, "{same}");
    }
    // Several servers of one machine may share a port.
    for other in ["127.0.0.2", "/nowhere/run", "/nowhere/copy"] {
        let other = format!("host={other} user=u dbname=shop");
        assert_ne!(instance(&other), local, "{other}");
    }
    assert!(!is_same("host=/nowhere/run user=u dbname=shop", "host=/nowhere/copy user=u dbname=shop"));
}

#[test]
fn a_socket_directory_is_known_by_each_of_its_names() {
    let dir = tempfile::tempdir().unwrap();
    let (real, link) = (dir.path().join("run"), dir.path().join("var"));
    std::fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let of = |path: &Path| instance(&format!("host={} user=u dbname=shop", path.display()));
    assert_eq!(of(&real), of(&link));
}

#[test]
fn a_short_name_belongs_to_the_namespace_of_its_pod() {
    let (url, pod) = ("postgres://app@db/shop", |domain| Machine::sample("pod-0", true, Some(domain)));
    let production = on(&pod("production.svc.cluster.local"), url);
    let staging = on(&pod("staging.svc.cluster.local"), url);
    assert_eq!(production.as_str(), "db.production.svc.cluster.local:5432/shop");
    assert!(!staging.may_deliver_from(production.as_str()));
    assert!(!production.rests_on_host_name(), "pods come and go");
    let full = "postgres://app@db.production.svc.cluster.local/shop";
    assert!(on(&pod("other.svc.cluster.local"), full).may_deliver_from(production.as_str()));
}

#[test]
fn it_says_when_it_rests_on_a_host_name() {
    let container = Machine::sample("9e107d9d372b", true, None);
    assert!(on(&container, "postgres://app@localhost/shop").rests_on_host_name());
    assert!(on(&container, "postgres://app@db.example,localhost/shop").rests_on_host_name());
    assert!(!on(&container, "postgres://app@db.example/shop").rests_on_host_name());
    assert!(!instance("postgres://app@localhost/shop").rests_on_host_name());
}

#[test]
fn a_chosen_name_is_compared_as_it_is() {
    let named = |text| Instance::named(text).unwrap();
    assert!(named(" shop production ").may_deliver_from("shop production"));
    for other in ["shop", "Shop production", "db.example:5432/shop", ""] {
        assert!(!named("shop production").may_deliver_from(other), "{other}");
    }
    assert!(named("a/b").may_deliver_from("a/b") && !named("a,b/c").may_deliver_from("a/c"));
    // What the refusal names can be given back.
    let armed = instance("postgres://app@b,localhost:1/shop");
    assert_eq!(named(armed.as_str()).as_str(), armed.as_str());
    assert!(named(armed.as_str()).may_deliver_from(armed.as_str()));
    for bad in ["", "  ", "a\nb", "a\u{7f}", &"x".repeat(1001)] {
        assert_eq!(Instance::named(bad), Err(BadInstance), "{bad:?}");
    }
}

fn hosts() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::btree_set("[a-c]{1,2}(\\.example)?", 1..5)
        .prop_map(|hosts| hosts.into_iter().collect::<Vec<_>>())
}

proptest! {
    /// The order of servers never counts, one more never hurts, and one less always does.
    #[test]
    fn lists_are_sets(hosts in hosts(), more in "[d-f]{1,3}", at in 0usize..5, port in 1u16..) {
        let url = |hosts: &[String]| format!("postgres://u@{}/shop", hosts.iter().map(|h| format!("{h}:{port}")).collect::<Vec<_>>().join(","));
        let armed = instance(&url(&hosts));
        let mut turned = hosts.clone();
        turned.rotate_left(at % hosts.len());
        prop_assert_eq!(&instance(&url(&turned)), &armed);
        turned.push(more);
        prop_assert!(instance(&url(&turned)).may_deliver_from(armed.as_str()));
        turned.remove(at % hosts.len());
        prop_assert!(!instance(&url(&turned)).may_deliver_from(armed.as_str()));
    }

    /// For all parts, the derived name can be stored and given as an argument, and it splits into
    /// the same parts.
    #[test]
    fn a_derived_name_can_be_given(host in "[a-z]\\PC{0,20}", database in "\\PC{1,20}", id in "[a-z0-9]{1,8}") {
        let mut config = Config::new();
        config.host(host.as_str());
        let derived = Instance::derived(&config, &database, &Machine::sample(&id, false, None));
        prop_assert!(Instance::named(derived.as_str()).unwrap().may_deliver_from(derived.as_str()));
        prop_assert_eq!(servers(derived.as_str()).map(|(servers, _)| servers.len()), Some(1));
        let other = Instance::derived(&config, &format!("{database}x"), &Machine::sample(&id, false, None));
        prop_assert!(!other.may_deliver_from(derived.as_str()));
    }
}
