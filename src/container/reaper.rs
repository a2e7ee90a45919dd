//! Our PID 1: starts the process, passes signals on to it, reaps zombies, ends with it.
//!
//! The kernel gives PID 1 no default actions for signals, so an app in its place without a handler
//! for SIGTERM would only ever be killed after the whole grace.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use super::launch::{self, Streams};
use super::protocol::{self, Failure, Sign, Step};
use super::spec::ProcessSpec;
use crate::sys::process::{self, Child, Exit};

const SIGCHLD: i32 = 17;
/// HUP, INT, QUIT, TERM: with nothing to pass them to, they end the container.
const ENDING: [i32; 4] = [1, 2, 3, 15];
/// TTIN and TTOU: stopping the app for what the reaper does with a terminal is never meant.
const IGNORED: [i32; 2] = [21, 22];

/// Runs until the process, if any, has ended; without one until it is killed.
pub(super) fn run(
    process: Option<&ProcessSpec>,
    streams: &Streams,
    monitor: BorrowedFd<'_>,
) -> Result<(), Failure> {
    // Before there is a child whose end could be missed.
    process::block_signals().step("block signals")?;
    let child = match process {
        None => None,
        Some(process) => Some(start(process, streams)?),
    };
    // The app's pipes must end when the app does.
    process::close_all_but(&[monitor]).step("close the app's descriptors")?;
    protocol::send(monitor, &Sign::Started, &[]).step("report to the monitor")?;
    loop {
        match process::next_signal().step("wait for signals")? {
            SIGCHLD => {
                if let Some(exit) = reap(child).step("reap")? {
                    return report(exit, monitor);
                }
            }
            number if child.is_none() && ENDING.contains(&number) => return Ok(()),
            number if IGNORED.contains(&number) => {}
            // It may be ending just now, which SIGCHLD will tell.
            number => {
                if let Some(pid) = child {
                    let _ = process::signal_pid(pid.cast_signed(), number);
                }
            }
        }
    }
}

/// Forks the process; its pid, once it has executed its program.
fn start(process: &ProcessSpec, streams: &Streams) -> Result<u32, Failure> {
    let (mut failed, mut report) = io::pipe().step("make a pipe")?;
    let Some(pid) = process::fork_here().step("fork")? else {
        let failure = launch::execute(process, streams, report.as_fd());
        // The parent takes silence for success, but then sees the exit code.
        let _ = report.write_all(failure.message().as_bytes());
        process::exit(launch::exit_code(&failure));
    };
    drop(report);
    // Ends with execve(2), which closes the other side.
    let mut message = String::new();
    failed.read_to_string(&mut message).step("watch the program start")?;
    if message.is_empty() {
        return Ok(pid);
    }
    let exit = process::wait(Child::Pid(pid)).step("reap")?;
    let kind = match exit {
        Some((_, Exit::Code(127))) => io::ErrorKind::NotFound,
        _ => io::ErrorKind::PermissionDenied,
    };
    Err(Failure::told(message, kind))
}

/// Reaps everything that has ended; how `child` did, if it is among them.
fn reap(child: Option<u32>) -> io::Result<Option<Exit>> {
    let mut result = None;
    loop {
        match process::wait(Child::AnyEnded) {
            Ok(Some((pid, exit))) if Some(pid) == child => result = Some(exit),
            Ok(Some(_)) => {}
            Ok(None) => return Ok(result),
            // ECHILD: none is left.
            Err(error) if error.raw_os_error() == Some(10) => return Ok(result),
            Err(error) => return Err(error),
        }
    }
}

/// Our own exit code cannot tell a signal, so the monitor is told.
fn report(exit: Exit, monitor: BorrowedFd<'_>) -> Result<(), Failure> {
    let (code, signal) = match exit {
        Exit::Code(code) => (Some(code), None),
        Exit::Signal(signal) => (None, Some(signal)),
    };
    protocol::send(monitor, &Sign::Exited(code, signal), &[]).step("report to the monitor")
}
