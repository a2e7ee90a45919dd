//! argv → role. Container roles are handed over before any thread exists.

use std::process::ExitCode;

fn main() -> ExitCode {
    let role = std::env::args_os().nth(1);
    match role.as_ref().and_then(|role| role.to_str()) {
        Some("container-monitor") => return staithe::container::monitor::main(),
        Some("container-exec") => return staithe::container::exec::main(),
        _ => {}
    }
    ExitCode::SUCCESS
}
