//! Wrong usage is one line that says what to do, and exit code 2.

use crate::{finish, webhookd};

#[tokio::test]
async fn help_lists_every_command_and_the_exit_codes() {
    let (code, out, _) = finish(webhookd(&["--help"])).await;
    assert_eq!(code, Some(0));
    for word in [
        "run",
        "listen",
        "status",
        "check",
        "verify",
        "keygen",
        "rekey",
        "subscription",
        "event",
        "delivery",
        "tail",
        "replay",
        "conform",
        "completions",
        "man",
        "Exit codes",
    ] {
        assert!(out.contains(word), "{word}");
    }
    let (code, out, _) = finish(webhookd(&["--version"])).await;
    assert_eq!((code, out), (Some(0), format!("webhookd {}\n", env!("CARGO_PKG_VERSION"))));
}

/// Runs it and expects one line on standard error, nothing on standard output, and code 2.
async fn refused(args: &[&str], env: &[(&str, &str)]) -> String {
    let mut command = webhookd(args);
    command.envs(env.iter().copied());
    let (code, out, err) = finish(command).await;
    assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}: {err}");
    assert!(err.starts_with("webhookd: ") && err.matches('\n').count() == 1, "{err:?}");
    err
}

#[tokio::test]
async fn settings_that_cannot_be_are_named() {
    let none: &[(&str, &str)] = &[];
    assert!(refused(&["run"], none).await.contains("--database-url"));
    assert!(refused(&["subscription", "list"], none).await.contains("--database-url"));
    assert!(
        refused(&["listen", "--forward-to", "http://127.0.0.1:1/"], none).await.contains("--database-url")
    );
    let wrong = refused(&["check"], &[("DATABASE_URL", "mysql://root:hunter2@db/shop?a=b")]).await;
    assert!(wrong.contains("postgres://") && !wrong.contains("hunter2"), "{wrong}");
    let range = refused(&["run", "--database-url", "postgres://u@h/d", "--allow-net", "lan"], none).await;
    assert!(range.contains("`lan`"), "{range}");
    assert!(refused(&["listen", "--secret", "whsec_no"], none).await.contains("base64"));
    assert!(refused(&["listen", "--log-level", "loud"], none).await.contains("`loud`"));
    let missing = refused(&["run", "--config", "/nonexistent.toml"], none).await;
    assert!(missing.contains("/nonexistent.toml"), "{missing}");
}

#[tokio::test]
async fn the_file_of_the_environment_is_read_and_its_mistakes_are_located() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("webhookd.toml");
    std::fs::write(&path, "# ours\nsafety_poll_ms = 5\ndatabase_ulr = 'postgres://app:hunter2@db/shop'\n")
        .unwrap();
    let told = refused(&["run"], &[("WEBHOOKD_CONFIG", path.to_str().unwrap())]).await;
    assert!(told.contains("line 3: unknown field `database_ulr`") && !told.contains("hunter2"), "{told}");
}

#[tokio::test]
async fn a_server_that_is_away_is_one_line_and_a_failure() {
    // A socket that is bound but does not listen: nobody else gets the port, and connections are
    // refused.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("postgres://app:hunter2@127.0.0.1:{}/shop", socket.local_addr().unwrap().port());
    for command in [
        "run",
        "status",
        "subscription list",
        "event show evt_1",
        "delivery list",
        "tail",
        "replay 1 --since now",
        "listen --forward-to http://127.0.0.1:1/",
    ] {
        let command: Vec<&str> = command.split(' ').collect();
        let (code, out, err) =
            finish(webhookd(&[&command[..], &["--database-url", &url, "--log-level", "error"]].concat()))
                .await;
        assert_eq!((code, out.as_str()), (Some(1), ""), "{command:?}: {err}");
        assert!(err.starts_with("webhookd: cannot connect to Postgres at 127.0.0.1:"), "{err}");
        assert!(err.matches('\n').count() == 1 && !err.contains("hunter2"), "{err:?}");
    }
    let (code, out, _) = finish(webhookd(&["check", "--database-url", &url])).await;
    assert_eq!(code, Some(1));
    assert!(
        out.starts_with("✗ connect") && out.contains("- extension  not checked") && !out.contains("hunter2"),
        "{out}"
    );
}

#[tokio::test]
async fn the_manual_page_and_completions_know_every_command() {
    let (code, page, _) = finish(webhookd(&["man"])).await;
    assert_eq!(code, Some(0));
    assert!(page.contains(".TH webhookd 1"), "{page}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, script, _) = finish(webhookd(&["completions", shell])).await;
        assert_eq!(code, Some(0), "{shell}");
        for word in ["subscription", "redeliver", "forward-to", "skip-backlog", "conform"] {
            assert!(script.contains(word), "{shell}: {word}");
            assert!(
                page.replace("\\-", "-").contains(word) || word == "redeliver" || word == "skip-backlog",
                "{word}"
            );
        }
    }
    let (code, out, _) = finish(webhookd(&["completions", "tcsh"])).await;
    assert_eq!((code, out.as_str()), (Some(2), ""));
}
