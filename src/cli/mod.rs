//! The command line: Dokku's language, spoken to the control socket.
//!
//! ```text
//! argv ─> argv::normalize ─> clap ─> one noun's file ─> client ─> output
//!         `apps:create shop`   `staithe apps create shop`
//! ```
//!
//! The same program serves local users and those who come over SSH; who they are is the server's to
//! judge. Results go to standard output, talk to standard error.
//!
//! **Invariant.** Knows no rule: whatever it asks, any other client of the API may ask as well.

mod access;
mod apps;
mod argv;
mod backups;
mod builds;
mod certs;
mod checks;
mod client;
mod command;
mod config;
mod context;
mod cron;
mod dashboard;
mod domains;
mod events;
mod exit;
mod git;
mod help;
mod host;
mod letsencrypt;
mod logs;
mod metrics;
mod output;
mod pages;
mod plugins;
mod ports;
mod proxy;
mod ps;
mod releases;
mod resource;
mod routes;
mod run;
mod services;
mod settings;
mod ssh_keys;
mod stack;
mod storage;
mod system;
mod terminal;
mod tokens;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::FromArgMatches;
use clap::error::ErrorKind;

use command::Cli;
use context::Context;
use exit::{Exit, Failure};
use output::Out;
use settings::Settings;

/// Runs the command that `arguments` (without the program's name) spell, and tells what became of it.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let settings = Settings::from_env();
    let colors = settings.colors;
    match run(arguments, settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(colors),
    }
}

fn run(arguments: impl IntoIterator<Item = OsString>, settings: Settings) -> Result<(), Failure> {
    let text = |argument: OsString| {
        argument.into_string().map_err(|argument| {
            Failure::usage(format!("the argument {} is not UTF-8", argument.display()))
        })
    };
    let arguments = arguments.into_iter().map(text).collect::<Result<Vec<_>, _>>()?;
    let Some(cli) = parse(arguments)? else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start: {error}")))?;
    let mut context = Context::new(&cli.global, settings)?;
    let result = runtime.block_on(Box::pin(cli.noun.run(&mut context)));
    // A read of standard input cannot be interrupted; the process ends without waiting for it.
    runtime.shutdown_background();
    result
}

/// The command, or nothing if help was asked for and given.
fn parse(arguments: Vec<String>) -> Result<Option<Cli>, Failure> {
    let tree = command::tree();
    let arguments = argv::normalize(arguments, &tree)?;
    let matches = tree.try_get_matches_from(std::iter::once("staithe".to_owned()).chain(arguments));
    match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => Ok(Some(cli)),
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            Out::new(false).text(&error.render().to_string())?;
            Ok(None)
        }
        Err(error) => Err(usage_failure(&error)),
    }
}

/// clap's complaint in our shape: the sentence as message, the usage as hint.
fn usage_failure(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let mut parts = text.split("\n\n").map(str::trim_end).filter(|part| !part.is_empty());
    let message = parts.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let hint: Vec<_> = parts
        .filter(|part| !part.starts_with("For more information"))
        .flat_map(str::lines)
        .map(str::trim)
        .collect();
    Failure::usage(message).hint(hint.join("\n"))
}

#[cfg(test)]
mod tests;
