//! The advisory locks of the daemon. The view `webhook.daemon_lock` and `extension/src/gate` name
//! the same.
//!
//! The first key of each lock is the bytes `pgWh`, and the second key is its number. The gate is in
//! a class that no SQL function can take.

/// The arguments of the lock functions of SQL: `pg_try_advisory_lock(lock_key!(leader))`.
#[macro_export]
macro_rules! lock_key {
    // Held by the control session of the leader.
    (leader) => {
        "1885820776, 1"
    };
    // Held by the ledger's session, from the takeover until that session is gone.
    (writer) => {
        "1885820776, 3"
    };
}

/// The condition on `pg_locks l` that the row is the lock, and a session of this database holds it.
#[macro_export]
macro_rules! is_lock {
    (leader) => {
        $crate::is_lock!(1, 2)
    };
    (gate) => {
        $crate::is_lock!(2, 7)
    };
    (writer) => {
        $crate::is_lock!(3, 2)
    };
    ($number:literal, $class:literal) => {
        concat!(
            "l.locktype = 'advisory' and l.granted and l.classid = 1885820776 and l.objid = ",
            $number,
            " and l.objsubid = ",
            $class,
            " and l.database = (select d.oid from pg_database d where d.datname = current_database())"
        )
    };
}
