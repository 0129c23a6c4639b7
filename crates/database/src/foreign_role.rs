//! Roles that callers of the admin server act as, although the daemon's role is not a member of
//! them.

use std::fmt;

/// Why the daemon cannot act as a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// Only a GRANT is missing.
    Membership,
    /// The role does not exist.
    Role,
    /// The role has more rights than the daemon may get: a superuser, the extension's owner, a
    /// role that passes row security or creates roles, a predefined role, or a member of one of
    /// these.
    Limits,
}

/// A role, and why the daemon cannot act as it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignRole {
    pub name: String,
    pub lack: Lack,
}

/// Writes what to do about these roles, for the daemon with the role `daemon`. It never advises to
/// make the daemon a member of a powerful role: an attacker who controls the daemon would get its
/// rights.
pub struct Advice<'a> {
    pub roles: &'a [ForeignRole],
    pub daemon: &'a str,
}

impl Advice<'_> {
    fn names(&self, lack: Lack) -> Option<String> {
        let names: Vec<&str> =
            self.roles.iter().filter(|role| role.lack == lack).map(|role| role.name.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }
}

impl fmt::Display for Advice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let daemon = self.daemon;
        let parts = [
            self.names(Lack::Membership)
                .map(|names| format!("webhookd cannot act as {names} for its callers; run: grant {names} to {daemon}")),
            self.names(Lack::Role).map(|names| format!("there is no role {names} for its callers to act as")),
            self.names(Lack::Limits).map(|names| {
                format!(
                    "webhookd does not act as {names}, which has more rights than callers need; use another role: \
                     create role operator; select webhook_grant('operator', 'admin'); grant operator to {daemon}"
                )
            }),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powerful_roles_are_never_granted() {
        let role = |name: &str, lack| ForeignRole { name: name.to_owned(), lack };
        let all = [
            role("clerk", Lack::Membership),
            role("ghost", Lack::Role),
            role("ops", Lack::Membership),
            role("postgres", Lack::Limits),
        ];
        let advice = |roles: &[ForeignRole]| Advice { roles, daemon: "courier" }.to_string();
        assert!(advice(&all[..3]).contains("grant clerk, ops to courier"));
        let told = advice(&all[3..]);
        assert!(!told.contains("grant postgres") && told.contains("grant operator to courier"), "{told}");
        assert!(!advice(&all).contains("ops, postgres"));
        assert!(advice(&all[1..2]).contains("no role ghost"));
    }
}
