//! The locks of the daemon. The view `webhook.daemon_lock`, `extension/src/gate` and
//! `extension/src/daemon_locks.rs` name the same.
//!
//! They are advisory locks. The first key of each is the bytes `pgWh`, and the second key is its
//! number. Their class is one that the lock functions of SQL cannot take, so that no other role can
//! keep the daemon from delivering. In the previous schema, leader and writer are in the class of
//! these functions.

use crate::schema::Schema;

/// A lock that decides which daemon delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// Held by the control session of the leader.
    Leader,
    /// Held by the ledger's session, from the takeover until that session is gone.
    Writer,
}

impl Lock {
    /// Returns the statement that tries to take the lock.
    pub fn try_statement(self, schema: Schema) -> &'static str {
        match (self, schema.is_outdated()) {
            (Self::Leader, false) => "select webhook.try_daemon_lock('leader')",
            (Self::Writer, false) => "select webhook.try_daemon_lock('writer')",
            (Self::Leader, true) => "select pg_try_advisory_lock(1885820776, 1)",
            (Self::Writer, true) => "select pg_try_advisory_lock(1885820776, 3)",
        }
    }

    /// Returns the statement that releases the lock.
    pub fn release_statement(self, schema: Schema) -> &'static str {
        match (self, schema.is_outdated()) {
            (Self::Leader, false) => "select webhook.release_daemon_lock('leader')",
            (Self::Writer, false) => "select webhook.release_daemon_lock('writer')",
            (Self::Leader, true) => "select pg_advisory_unlock(1885820776, 1)",
            (Self::Writer, true) => "select pg_advisory_unlock(1885820776, 3)",
        }
    }
}

/// The condition on `pg_locks l` that the row is the lock, and a session of this database holds it.
#[macro_export]
macro_rules! is_lock {
    (leader) => {
        $crate::is_lock!(1, "case when to_regproc('webhook.try_daemon_lock') is null then 2 else 7 end")
    };
    (gate) => {
        $crate::is_lock!(2, "7")
    };
    (writer) => {
        $crate::is_lock!(3, "case when to_regproc('webhook.try_daemon_lock') is null then 2 else 7 end")
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
