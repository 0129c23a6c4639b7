//! Libraries in C that a program loads before its own, which change single calls of it. They need
//! no privilege: containers and chroots refuse mounts, quotas and namespaces, also to root.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Compiles a file of this folder into `into`. Returns the library, for `LD_PRELOAD`.
///
/// # Panics
/// If there is no C compiler, which building needs too, or it warns.
pub fn compile(source: &str, into: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(source);
    let library = into.join(source.file_name().expect("a file")).with_extension("so");
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .args([&library, &source])
        .args(["-ldl", "-lresolv"])
        .output()
        .expect("there is a C compiler");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    library
}
