//! Lets the unit tests be linked, which are a program without a server around them: what they do not call may be missing. The
//! library itself leaves such symbols to the server anyway.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg=-Wl,--unresolved-symbols=ignore-all");
}
