//! Reports whether a file with a password or key is open to other users.

use std::{
    ffi::OsStr,
    fs::Metadata,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Reports whether users other than the owner may read or change a file.
///
/// A credential of systemd (`LoadCredential=`) belongs to root. Only an entry in its access control
/// list lets the service read it, and the bits of the group then show the mask of that list. Other
/// users cannot enter the directory (systemd.exec(5), `CREDENTIALS_DIRECTORY`).
pub fn is_open_to_others(path: &Path, metadata: &Metadata) -> bool {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
    metadata.mode() & forbidden(path, credentials.as_deref()) != 0
}

/// Returns the bits of the mode that the file must not have.
fn forbidden(path: &Path, credentials: Option<&OsStr>) -> u32 {
    let folder = credentials.map(PathBuf::from).filter(|folder| folder.is_absolute());
    let is_credential = folder.is_some_and(|folder| path.parent() == Some(&folder));
    if is_credential { 0o007 } else { 0o077 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_credentials_may_show_a_group() {
        let folder = OsStr::new("/run/credentials/webhookd.service");
        let within = Path::new("/run/credentials/webhookd.service/webhookd.key");
        assert_eq!(forbidden(within, Some(folder)), 0o007);
        for (path, credentials) in [
            (within, None),
            (within, Some(OsStr::new(""))),
            (within, Some(OsStr::new("/run/credentials"))),
            (Path::new("/etc/webhookd.key"), Some(folder)),
            (Path::new("/run/credentials/webhookd.service/../webhookd.key"), Some(folder)),
        ] {
            assert_eq!(forbidden(path, credentials), 0o077, "{} {credentials:?}", path.display());
        }
    }
}
