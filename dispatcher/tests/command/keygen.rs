//! `webhookd keygen` and what the other commands make of its file.

use crate::{finish, webhookd};
use std::os::unix::fs::PermissionsExt;

#[tokio::test]
async fn the_private_half_is_for_its_owner_and_the_public_half_for_everyone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("webhookd.key");
    let (code, out, err) = finish(webhookd(&["keygen", path.to_str().unwrap()])).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let proven = seal::ProvenKey::parse(out.trim_end()).unwrap();
    let public = proven.key().clone();
    let text = std::fs::read_to_string(&path).unwrap();
    let ring = seal::KeyRing::parse(&text).unwrap();
    assert_eq!(ring.keys().len(), 1);
    assert_eq!(ring.current().unwrap().public_key(), &public);
    assert!(text.contains(&public.id().to_string()), "which one it is can be read");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn the_public_half_of_a_file_can_be_printed_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("webhookd.key");
    let keygen = |more: &[&str]| finish(webhookd(&[&["keygen", path.to_str().unwrap()], more].concat()));
    let (code, out, err) = keygen(&["--public"]).await;
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("webhookd.key"), "{err}");
    assert!(!path.exists(), "it creates nothing");
    let (_, made, _) = keygen(&[]).await;
    let before = std::fs::read(&path).unwrap();
    assert_eq!(keygen(&["--public"]).await, (Some(0), made.clone(), String::new()));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    // The first key of the file is the current one.
    let other = seal::PrivateKey::generate().unwrap();
    std::fs::write(&path, format!("{}\n{}", *other.reveal(), str::from_utf8(&before).unwrap())).unwrap();
    assert_eq!(keygen(&["--public"]).await.1, format!("{}\n", other.proven_key()));
}

#[tokio::test]
async fn only_a_credential_of_systemd_may_show_a_group() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("webhookd.key");
    assert_eq!(finish(webhookd(&["keygen", path.to_str().unwrap()])).await.0, Some(0));
    for (mode, credentials, warns) in [
        (0o440, dir.path().to_str().unwrap(), false),
        (0o444, dir.path().to_str().unwrap(), true),
        (0o440, "/run/credentials/other.service", true),
    ] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let mut command = webhookd(&["keygen", "--public", path.to_str().unwrap()]);
        command.env("CREDENTIALS_DIRECTORY", credentials);
        let (code, _, err) = finish(command).await;
        assert_eq!((code, err.contains("key_file.open_to_others")), (Some(0), warns), "{mode:o} {err}");
    }
}

#[tokio::test]
async fn a_key_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("webhookd.key");
    let keygen = || finish(webhookd(&["keygen", path.to_str().unwrap()]));
    assert_eq!(keygen().await.0, Some(0));
    let before = std::fs::read(&path).unwrap();
    let (code, out, err) = keygen().await;
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("webhookd: cannot write") && err.contains("exists"), "{err}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn no_message_shows_a_key() {
    let key = seal::PrivateKey::generate().unwrap().reveal().to_string();
    for bad in [&key[..key.len() - 1], &format!("{key} {key}x")] {
        let mut command = webhookd(&["rekey", "--database-url", "postgres://u@h/d"]);
        command.env("WEBHOOKD_KEY", bad);
        let (code, out, err) = finish(command).await;
        assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
        assert!(err.contains("webhookd keygen") && !err.contains(&key[20..40]), "{err}");
    }
    let (code, _, err) = finish(webhookd(&["rekey", "--database-url", "postgres://u@h/d"])).await;
    assert_eq!(code, Some(2));
    assert!(err.contains("--key-file"), "{err}");
}
