//! Identifies this machine, for servers that are reached over loopback or a socket. Reads files and
//! writes nothing.

use crate::variables::Variables;
use sha2::{Digest as _, Sha256};
use std::{fs, path::Path};

/// systemd asks programs not to publish the machine id, so the daemon uses a digest of it.
const PURPOSE: &[u8] = b"webhookd instance\n";

/// This machine, or the container that the daemon runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    id: String,
    is_host_name: bool,
    domain: Option<String>,
}

impl Machine {
    pub fn here(variables: Variables<'_>) -> Self {
        let system = rustix::system::uname();
        let host_name = system.nodename().to_string_lossy();
        Self::of(Path::new("/"), &host_name, variables("KUBERNETES_SERVICE_HOST").is_some())
    }

    /// A pod has no machine id of its own. The `/etc/machine-id` of its image or its node is the
    /// same in other pods. Its name and its namespace distinguish it from pods of other
    /// environments.
    fn of(root: &Path, host_name: &str, is_pod: bool) -> Self {
        let read = |path: &str| {
            let text = fs::read_to_string(root.join(path)).ok()?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let host_name = host_name.to_lowercase();
        if is_pod {
            let domain = read("etc/resolv.conf").and_then(|text| search_domain(&text));
            let id = match &domain {
                Some(domain) if !host_name.contains('.') => format!("{host_name}.{domain}"),
                _ => host_name,
            };
            return Self { id, is_host_name: true, domain };
        }
        // systemd writes "uninitialized" until the first boot is complete.
        let is_id = |text: &String| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let ids = ["etc/machine-id", "var/lib/dbus/machine-id"];
        let Some(id) = ids.into_iter().filter_map(read).find(is_id) else {
            return Self { id: host_name, is_host_name: true, domain: None };
        };
        // A cloned machine with the same machine id gets another instance id from its cloud.
        let cloud = read("var/lib/cloud/data/instance-id").unwrap_or_default();
        let mut digest = Sha256::new();
        for part in [PURPOSE, id.to_lowercase().as_bytes(), b"\n", cloud.as_bytes()] {
            digest.update(part);
        }
        let id = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { id, is_host_name: false, domain: None }
    }

    /// Returns a digest of the machine's ids, or its host name if there are none.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Reports whether [`Machine::id`] is a host name.
    pub fn is_host_name(&self) -> bool {
        self.is_host_name
    }

    /// In Kubernetes, the domain of the pod's namespace. Names without a dot are resolved in it.
    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    #[cfg(test)]
    pub fn sample(id: &str, is_host_name: bool, domain: Option<&str>) -> Self {
        Self { id: id.to_owned(), is_host_name, domain: domain.map(str::to_owned) }
    }
}

/// Returns the first search domain of a `resolv.conf`. As for the resolver, the last line with
/// search domains counts.
fn search_domain(text: &str) -> Option<String> {
    let named = text.lines().rev().find_map(|line| {
        let mut words = line.split_whitespace();
        matches!(words.next(), Some("search" | "domain")).then(|| words.next().map(str::to_owned))?
    })?;
    let domain = named.trim_matches('.').to_lowercase();
    Some(domain).filter(|domain| !domain.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    const ID: &str = "3f2a9c1f7a0b4d5e8f90a1b2c3d4e5f6\n";

    #[test]
    fn the_id_is_a_digest_and_stays_the_same() {
        let dir = root(&[("etc/machine-id", ID)]);
        let machine = Machine::of(dir.path(), "web1", false);
        assert_eq!((machine.id.len(), machine.is_host_name), (16, false));
        assert!(!ID.contains(&machine.id));
        assert_eq!(machine, Machine::of(dir.path(), "renamed", false), "the host name does not count");
        let dbus = root(&[("etc/machine-id", "uninitialized\n"), ("var/lib/dbus/machine-id", ID)]);
        assert_eq!(machine, Machine::of(dbus.path(), "web1", false));
    }

    #[test]
    fn a_clone_in_a_cloud_is_another_machine() {
        let of = |instance| {
            let dir = root(&[("etc/machine-id", ID), ("var/lib/cloud/data/instance-id", instance)]);
            Machine::of(dir.path(), "web1", false)
        };
        assert_eq!(of("i-1\n"), of("i-1"));
        assert_ne!(of("i-1\n"), of("i-2\n"));
    }

    #[test]
    fn without_an_id_the_host_name_stands_in() {
        for files in [&[][..], &[("etc/machine-id", "\n")], &[("etc/machine-id", "uninitialized\n")]] {
            let machine = Machine::of(root(files).path(), "Web1", false);
            assert_eq!((machine.id(), machine.is_host_name()), ("web1", true), "{files:?}");
        }
    }

    #[test]
    fn a_pod_is_known_by_its_name_and_namespace() {
        let of = |search: &str| {
            let dir = root(&[("etc/machine-id", ID), ("etc/resolv.conf", search)]);
            Machine::of(dir.path(), "pg-0", true)
        };
        let pod =
            of("nameserver 10.0.0.10\nsearch staging.svc.cluster.local svc.cluster.local\noptions ndots:5\n");
        assert_eq!(pod.id(), "pg-0.staging.svc.cluster.local");
        assert_eq!(pod.domain(), Some("staging.svc.cluster.local"));
        assert_eq!((of("nameserver 10.0.0.10\n").id(), of("search .\n").domain()), ("pg-0", None));
    }

    #[test]
    fn the_last_search_line_counts() {
        assert_eq!(
            search_domain("domain a.example\nsearch B.example. c.example").as_deref(),
            Some("b.example")
        );
        assert_eq!(search_domain("# search a.example\nsearch\n"), None);
    }
}
