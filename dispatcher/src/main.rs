//! The `webhookd` command: a thin shell over the library.
//!
//! It first parses all settings and starts logging, without a runtime. Then the command runs. An
//! error is printed once, in one line on standard error, and the exit code shows its kind.

mod signals;

use clap::Parser;
use seal::KeyRing;
use std::{process::ExitCode, sync::Arc};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use webhookd::{
    cli::{Cli, Command, TokenAction, schema::SchemaAction},
    commands::{
        Error, FAILED, check, conform, forward, keygen, listen, manage, manual, one_line, portal_link, rekey,
        replay, run, schema, status, tail, token, verify,
    },
    config::{Layers, key_file},
    logging,
    reload::Reload,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match execute(cli) {
        Ok(code) => code,
        Err(Error::ReaderGone) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("webhookd: {}", one_line(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

fn execute(cli: Cli) -> Result<ExitCode, Error> {
    let layers = Layers::load(&cli)?;
    logging::start(&layers.logging(&cli.common))?;
    match cli.command {
        Command::Verify(flags) => verify::run(&flags),
        Command::Keygen(flags) => {
            let keys = if flags.public { key_file(&flags.file)? } else { KeyRing::default() };
            keygen::run(&flags, &keys)
        }
        Command::Rekey(flags) => {
            let (database, keys) = (layers.database(&flags.database)?, layers.keys(&flags.keys)?);
            within_runtime(|_| async move { rekey::run(&flags, database, keys).await })
        }
        Command::Token(flags) => {
            let database = layers.database(match &flags.action {
                TokenAction::Create(flags) => &flags.database,
                TokenAction::List(flags) => &flags.database,
                TokenAction::Revoke(flags) => &flags.database,
            })?;
            within_runtime(|_| async move { token::run(&flags.action, database).await })
        }
        Command::PortalLink(flags) => {
            let database = layers.database(&flags.database)?;
            let (settings, url) = (layers.portal()?, layers.public_url()?);
            within_runtime(|_| async move { portal_link::run(&flags, database, &settings, url).await })
        }
        Command::Listen(flags) => match flags.forward_to.clone() {
            Some(url) => {
                let database = layers.database(&flags.database)?;
                within_runtime(|shutdown| async move { forward::run(&flags, &url, database, shutdown).await })
            }
            None => within_runtime(|shutdown| listen::run(flags, shutdown)),
        },
        Command::Conform(flags) => within_runtime(|_| async move { conform::run(&flags).await }),
        Command::Subscription(flags) => {
            let database = layers.database(flags.action.database())?;
            within_runtime(|_| manage::subscription(flags.action, database))
        }
        Command::Event(flags) => {
            let database = layers.database(flags.action.database())?;
            within_runtime(|_| manage::event(flags.action, database))
        }
        Command::Delivery(flags) => {
            let database = layers.database(flags.action.database())?;
            within_runtime(|_| manage::delivery(flags.action, database))
        }
        Command::Tail(flags) => {
            let database = layers.database(&flags.database)?;
            within_runtime(|shutdown| async move { tail::run(&flags, database, shutdown).await })
        }
        Command::Replay(flags) => {
            let database = layers.database(&flags.database)?;
            within_runtime(|shutdown| async move { replay::run(&flags, database, shutdown).await })
        }
        Command::Schema(flags) => match flags.action {
            SchemaAction::Dump { database } => {
                let database = layers.database(&database)?;
                within_runtime(|_| schema::dump(database))
            }
            SchemaAction::Diff(flags) => within_runtime(|_| async move { schema::diff(&flags).await }),
        },
        Command::Completions { shell } => manual::completions(shell),
        Command::Man => manual::page(),
        Command::Run(flags) => {
            let settings = layers.dispatch(&flags)?;
            let hangup = Arc::<Notify>::default();
            let reload = Reload::new(Arc::clone(&hangup), move || layers.reread(&flags));
            obeying(Some(hangup), |shutdown| run::run(settings, reload, shutdown))
        }
        Command::Status(flags) => {
            let database = layers.database(&flags.database)?;
            within_runtime(|_| async move { status::run(&flags, database).await })
        }
        Command::Check(flags) => {
            let database = layers.delivers(&flags.database, &flags.delivers)?;
            let secrets = layers.secrets(&flags.keys)?;
            let admin = layers.admin(flags.admin, flags.admin_open_as.as_deref(), &[])?;
            within_runtime(|_| check::run(database, secrets, admin))
        }
    }
}

/// Runs a command until it ends, or until a signal stops it.
fn within_runtime<F>(command: impl FnOnce(CancellationToken) -> F) -> Result<ExitCode, Error>
where
    F: Future<Output = Result<ExitCode, Error>>,
{
    obeying(None, command)
}

/// Does the same, and notifies `hangup` when the command should read its files again.
fn obeying<F>(
    hangup: Option<Arc<Notify>>,
    command: impl FnOnce(CancellationToken) -> F,
) -> Result<ExitCode, Error>
where
    F: Future<Output = Result<ExitCode, Error>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)?;
    let ended = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        signals::obey(shutdown.clone(), hangup, FAILED.into());
        command(shutdown).await
    });
    // A look-up of a name may still occupy a thread. Nothing waits for it now.
    runtime.shutdown_background();
    ended
}
