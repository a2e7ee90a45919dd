//! argv → role. Container roles are handed over before any thread exists.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

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
