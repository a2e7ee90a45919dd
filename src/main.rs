//! argv → role. Container roles are handed over before any thread exists.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use staithe::{cli, container, daemon, git, proxy, ssh};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
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

/// `staithe proxy`: started and told its settings by the control plane.
fn proxy_role(arguments: &[OsString]) -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let run = || -> anyhow::Result<()> {
        let args = proxy::ProxyArgs::from_arguments(arguments.iter().cloned())?;
        Ok(proxy::main(&args)?)
use staithe::{git, ssh};

/// Where the control socket is unless the environment says otherwise.
const CONTROL_SOCKET: &str = "/run/staithe/control.sock";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let environment = |name: &str| std::env::var_os(name);
    let socket = environment("STAITHE_CONTROL_SOCKET").unwrap_or_else(|| CONTROL_SOCKET.into());
    let socket = PathBuf::from(socket);
    let (role, rest) = match arguments.split_first() {
        Some((role, rest)) => (role.to_str().unwrap_or_default(), rest),
        None => ("", &[][..]),
    };
    match role {
        "git-hook" => git::hook::main(rest, environment),
        "ssh-authorized-keys" => match std::env::current_exe() {
            Ok(executable) => ssh::system::authorized_keys(rest, &socket, &executable),
            Err(_) => ExitCode::FAILURE,
        },
        "ssh-command" => ssh::system::forced_command(rest, environment, &socket),
        _ => ExitCode::FAILURE,
    }
}
