//! `run` and `enter`.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use clap::Args;

use super::context::{AppArg, Context};
use super::exit::Failure;
use super::terminal;
use crate::domain::{EnvKey, Secret};
use crate::sys;
use crate::wire::{RunRequest, TerminalSize};

/// The size of a terminal that does not know its own.
const DEFAULT_SIZE: TerminalSize = TerminalSize { columns: 80, rows: 24 };

/// `run`.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// A var for this command only: `KEY=value`
    #[arg(long, short, value_name = "KEY=value")]
    env: Vec<String>,
    /// Uses pipes even if there is a terminal
    #[arg(long)]
    no_tty: bool,
    #[command(flatten)]
    app: AppArg,
    /// The command; one word that names a process type runs that type's command
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// `enter`.
#[derive(Debug, Args)]
pub(super) struct Enter {
    /// Uses pipes even if there is a terminal
    #[arg(long)]
    no_tty: bool,
    #[command(flatten)]
    app: AppArg,
    /// The process type or instance: `web` if none
    process: Option<String>,
    /// The command; a shell if none
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Run {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let env = self.env.iter().map(|pair| parse_env(pair)).collect::<Result<_, _>>()?;
        let terminal = terminal_size(self.no_tty);
        let term = terminal.and_then(|_| context.settings.term.clone());
        let request = RunRequest { process: None, args: self.command, env, terminal, term };
        attach(context, &format!("/apps/{}/run", self.app.app), &request).await
    }
}

impl Enter {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let terminal = terminal_size(self.no_tty);
        let term = terminal.and_then(|_| context.settings.term.clone());
        let process = self.process.or_else(|| Some("web".to_owned()));
        let request = RunRequest { process, args: self.command, env: Vec::new(), terminal, term };
        attach(context, &format!("/apps/{}/enter", self.app.app), &request).await
    }
}

fn parse_env(pair: &str) -> Result<(EnvKey, Secret), Failure> {
    let (key, value) = pair
        .split_once('=')
        .ok_or_else(|| Failure::usage("--env needs a var written `KEY=value`"))?;
    Ok((key.parse()?, Secret::new(value)))
}

/// The size of the user's terminal, if input and output are one.
pub(super) fn terminal_size(no_tty: bool) -> Option<TerminalSize> {
    let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
    if no_tty || !stdin.is_terminal() || !stdout.is_terminal() {
        return None;
    }
    match sys::tty::window_size(stdout.as_fd()) {
        Ok((columns, rows)) if columns > 0 && rows > 0 => Some(TerminalSize { columns, rows }),
        _ => Some(DEFAULT_SIZE),
    }
}

/// Ends with the process's exit code.
pub(super) async fn attach(
    context: &Context,
    path: &str,
    request: &RunRequest,
) -> Result<(), Failure> {
    let connection = context.client.session(path, request).await?;
    match terminal::attach(connection, request.terminal.is_some()).await? {
        0 => Ok(()),
        code => Err(Failure::Silent(code)),
    }
}
