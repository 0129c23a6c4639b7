//! Reads the password file of libpq (`~/.pgpass`, `PGPASSFILE`), which has lines
//! `host:port:database:user:password`.

use crate::private_file::is_open_to_others;
use std::{fs::File, io::Read, path::Path};
use tracing::warn;

/// Maximum size of the file, in bytes.
const BYTES_MAX: u64 = 1 << 20;

/// Returns the text of the file, or `None` if there is none. As with libpq, a file that others can
/// read is ignored.
pub fn read(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() {
        warn!(path = %path.display(), "passfile.ignored; it is not a regular file");
        return None;
    }
    if is_open_to_others(path, &metadata) {
        warn!(path = %path.display(), "passfile.ignored; other users can read it: run chmod 600");
        return None;
    }
    let mut text = String::new();
    file.by_ref().take(BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Returns the password of the first line whose four fields match. `*` matches anything.
pub fn find(text: &str, wanted: &[&str; 4]) -> Option<String> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let [host, port, database, user, password] = fields.as_slice() else { return None };
        let fits = [host, port, database, user]
            .into_iter()
            .zip(wanted)
            .all(|(field, wanted)| field == "*" || field == wanted);
        (fits && !password.is_empty()).then(|| password.clone())
    })
}

/// Splits a line at colons into at most five fields. A backslash escapes the next character. The
/// last field extends to the end of the line.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let count = fields.len();
        let Some(field) = fields.last_mut() else { break };
        match c {
            '\\' => field.extend(chars.next()),
            ':' if count < 5 => fields.push(String::new()),
            c => field.push(c),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    #[test]
    fn the_first_line_that_fits_counts() {
        let text = "# a comment:*:*:*:no\nshort:line\nother:5432:shop:app:one\ndb:5432:shop:app:\n\
                    db:*:shop:a\\:pp:two\\:\\\\:three\n*:*:*:*:last";
        for (wanted, want) in [
            (["db", "5432", "shop", "a:pp"], "two:\\:three"),
            (["db", "1", "shop", "a:pp"], "two:\\:three"),
            (["db", "5432", "shop", "app"], "last"),
            (["other", "5432", "shop", "app"], "one"),
        ] {
            assert_eq!(find(text, &wanted).as_deref(), Some(want), "{wanted:?}");
        }
        assert_eq!(find("db:1:b:u:p", &["db", "2", "b", "u"]), None);
    }

    #[test]
    fn a_file_that_others_may_read_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pgpass");
        fs::write(&path, "*:*:*:*:p").unwrap();
        for (mode, used) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path).is_some(), used, "{mode:o}");
        }
        assert_eq!((read(dir.path()), read(&dir.path().join("absent"))), (None, None));
    }
}
