//! argv → role. Container roles are handed over before any thread exists.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use staithe::{cli, config, container, daemon, git, proxy, ssh};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if std::env::var_os("STAITHE_ACTOR").is_some() && !is_hook(&arguments) {
        // Who comes over SSH gets commands; the roles below are not for them.
        return cli::main(arguments.into_iter().skip(1));
    }
    let rest = arguments.get(2..).unwrap_or_default();
    match arguments.get(1).and_then(|role| role.to_str()) {
        Some("container-monitor") => container::monitor::main(),
        Some("container-exec") => container::exec::main(),
        Some("serve") => match daemon::Args::try_parse_from(&arguments[1..]) {
            Ok(args) => daemon::main(args),
            Err(error) => usage(&error),
        },
        Some("proxy") => proxy_role(rest),
        Some("git-hook") => git::hook::main(rest, |name| std::env::var_os(name)),
        Some("ssh-authorized-keys") => {
            let executable = std::env::current_exe().unwrap_or_else(|_| "staithe".into());
            ssh::system::authorized_keys(rest, &control_socket(), &executable)
        }
        Some("ssh-command") => {
            ssh::system::forced_command(rest, |name| std::env::var_os(name), &control_socket())
        }
        _ => cli::main(arguments.into_iter().skip(1)),
    }
}

/// Whether git runs us, in a push: its hook has the pusher's name in the environment too.
fn is_hook(arguments: &[OsString]) -> bool {
    arguments.get(1).is_some_and(|role| role == "git-hook")
        && std::env::var_os("STAITHE_APP").is_some()
}

/// `staithe proxy`: started and told its settings by the control plane.
fn proxy_role(arguments: &[OsString]) -> ExitCode {
    let parsed = proxy::ProxyArgs::from_arguments(arguments.iter().cloned());
    daemon::start_logging(&match &parsed {
        Ok(args) => config::Log::of_proxy(&args.start.log),
        Err(_) => config::Log::default(),
    });
    let run = || -> anyhow::Result<()> { Ok(proxy::main(&parsed?)?) };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The control plane's socket, for the roles that the system's sshd starts.
fn control_socket() -> PathBuf {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let run_dir = || variable("STAITHE_RUN_DIR").unwrap_or_else(|| "/run/staithe".into());
    variable("STAITHE_CONTROL_SOCKET").unwrap_or_else(|| run_dir().join("control.sock"))
}

#[allow(clippy::print_stderr, reason = "there is no log yet")]
fn usage(error: &clap::Error) -> ExitCode {
    eprint!("{error}");
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
