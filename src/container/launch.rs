//! The last steps before a program of the container runs: session, standard streams, directory,
//! execve.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::io::Stdio;
use super::protocol::{Failure, Step};
use super::spec::ProcessSpec;
use crate::sys::path::{self, Access, Links};
use crate::sys::{process, pty};

/// Searched if the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The child's ends of its standard streams.
#[derive(Debug)]
pub(super) enum Streams {
    /// stdin is /dev/null; stdout and stderr where given, else /dev/null too.
    Null { stdout: Option<OwnedFd>, stderr: Option<OwnedFd> },
    /// stdin, stdout, stderr.
    Pipes([OwnedFd; 3]),
    /// The slave of a terminal, made inside later.
    Terminal(Option<OwnedFd>),
}

impl Streams {
    /// From what came with a job. With `Stdio::Log` the caller puts in the log's pipes itself.
    pub(super) fn received(stdio: Stdio, descriptors: Vec<OwnedFd>) -> io::Result<Self> {
        match stdio {
            Stdio::Log => Ok(Self::Null { stdout: None, stderr: None }),
            Stdio::Terminal => Ok(Self::Terminal(None)),
            Stdio::Pipes => descriptors
                .try_into()
                .map(Self::Pipes)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not three streams")),
        }
    }

    /// Gives the pipes to the user of the process: /dev/stdout opens them anew, which takes the
    /// permissions of their owner.
    pub(super) fn give_to(&self, uid: u32, gid: u32) -> io::Result<()> {
        self.descriptors()
            .iter()
            .try_for_each(|fd| std::os::unix::fs::fchown(fd, Some(uid), Some(gid)))
    }

    /// Makes a terminal of the container's own devpts, if one is wanted; its master. The caller
    /// sees the container's root.
    pub(super) fn open_terminal(
        &mut self,
        process: Option<&ProcessSpec>,
    ) -> Result<Option<OwnedFd>, Failure> {
        let Self::Terminal(slave) = self else { return Ok(None) };
        let (master, opened) = open_terminal(process).step("open a terminal")?;
        *slave = Some(opened);
        Ok(Some(master))
    }

    /// All that must stay open until the program is executed.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Null { stdout, stderr } => stdout.iter().chain(stderr).map(AsFd::as_fd).collect(),
            Self::Pipes(pipes) => pipes.iter().map(AsFd::as_fd).collect(),
            Self::Terminal(slave) => slave.iter().map(AsFd::as_fd).collect(),
        }
    }

    fn install(&self) -> io::Result<()> {
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        let null = Some(null.as_fd());
        let ends = match self {
            Self::Null { stdout, stderr } => {
                let [stdout, stderr] = [stdout, stderr].map(|fd| fd.as_ref().map(AsFd::as_fd));
                [null, stdout.or(null), stderr.or(null)]
            }
            Self::Pipes([stdin, stdout, stderr]) => {
                [Some(stdin.as_fd()), Some(stdout.as_fd()), Some(stderr.as_fd())]
            }
            Self::Terminal(slave) => [slave.as_ref().map(AsFd::as_fd); 3],
        };
        if let Self::Terminal(Some(slave)) = self {
            pty::make_controlling(slave.as_fd())?;
        }
        for (number, end) in (0..).zip(ends) {
            process::duplicate_to(end.ok_or(io::ErrorKind::NotFound)?, number, false)?;
        }
        Ok(())
    }
}

/// Master and slave. The container's user 0 can put anything at /dev/ptmx, and that of devpts
/// cannot be covered without CAP_SYS_ADMIN; still it is checked to be what it should be.
fn open_terminal(process: Option<&ProcessSpec>) -> io::Result<(OwnedFd, OwnedFd)> {
    let root = path::root()?;
    let ptmx = Path::new("dev/pts/ptmx");
    let master = path::open_in(root.as_fd(), ptmx, Links::InRoot, Access::ReadWrite)?;
    if !path::is_on_devpts(master.as_fd())? {
        return Err(io::Error::other("/dev/pts is not devpts"));
    }
    pty::unlock(master.as_fd())?;
    let slave = pty::slave(master.as_fd())?;
    if let Some(process) = process {
        let size = process.terminal.unwrap_or_default();
        pty::set_size(master.as_fd(), size.rows, size.columns)?;
        std::os::unix::fs::fchown(&slave, Some(process.uid), None)?;
    }
    Ok((master, slave))
}

/// Becomes the program; returns only on failure. `report` stays open until then.
pub(super) fn execute(process: &ProcessSpec, streams: &Streams, report: BorrowedFd<'_>) -> Failure {
    let Err(failure) = try_execute(process, streams, report);
    failure
}

fn try_execute(
    process: &ProcessSpec,
    streams: &Streams,
    report: BorrowedFd<'_>,
) -> Result<std::convert::Infallible, Failure> {
    process::reset_signals().step("reset signals")?;
    // A session of its own: signals and job control from elsewhere do not reach it by accident,
    // and only a session's leader can be given a terminal.
    process::new_session().step("make a session")?;
    streams.install().step("connect standard streams")?;
    // Before the directory is entered, so that /proc/self/fd leads to nothing of the host's
    // (CVE-2024-21626).
    process::close_all_but(&[report]).step("close inherited descriptors")?;
    std::env::set_current_dir(&process.cwd)
        .step_with(|| format!("enter working directory `{}`", process.cwd))?;
    path::reachable_current_directory()
        .step_with(|| format!("stay inside with working directory `{}`", process.cwd))?;
    let program = process.args.first().map_or("", String::as_str);
    let source = replace(process, program);
    Err(Failure::new(format!("execute `{program}`"), source))
}

/// execve(2) with the search of execvp(3), in the environment of the program.
fn replace(process: &ProcessSpec, program: &str) -> io::Error {
    let strings = || -> io::Result<(Vec<CString>, Vec<CString>)> {
        let args = process.args.iter().map(|arg| CString::new(arg.as_str()));
        let env = process.env.iter().map(|(key, value)| CString::new(format!("{key}={value}")));
        Ok((args.collect::<Result<_, _>>()?, env.collect::<Result<_, _>>()?))
    };
    let (args, env) = match strings() {
        Ok(strings) => strings,
        Err(error) => return error,
    };
    let mut result = not_found();
    for candidate in candidates(process, program) {
        let Ok(candidate) = CString::new(candidate) else { continue };
        let error = process::execute(&candidate, &args, &env);
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {}
            // Another directory may have one that can be executed; if none has, this is why.
            io::ErrorKind::PermissionDenied => result = error,
            _ => return error,
        }
    }
    result
}

/// As the kernel would say it, also where nothing was tried.
fn not_found() -> io::Error {
    // ENOENT
    io::Error::from_raw_os_error(2)
}

fn candidates(process: &ProcessSpec, program: &str) -> Vec<String> {
    if program.contains('/') || program.is_empty() {
        return vec![program.to_owned()];
    }
    let path = process.env.iter().rev().find(|(key, _)| key == "PATH");
    let path = path.map_or(DEFAULT_PATH, |(_, value)| value.as_str());
    path.split(':').filter(|dir| !dir.is_empty()).map(|dir| format!("{dir}/{program}")).collect()
}

/// Exit code of a program that could not be executed, as shells have it.
pub(super) fn exit_code(failure: &Failure) -> u8 {
    if failure.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
}

/// Opens /dev/null of the host in place of what was inherited as stdin.
pub(super) fn forget_stdin() -> io::Result<()> {
    process::duplicate_to(File::open("/dev/null")?.as_fd(), 0, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_searched_in_the_path_of_their_own_environment() {
        let mut process = ProcessSpec::default();
        process.env.push(("PATH".into(), "/a::/b".into()));
        assert_eq!(candidates(&process, "x"), ["/a/x", "/b/x"]);
        assert_eq!(candidates(&process, "./x"), ["./x"]);
        process.env.clear();
        assert!(candidates(&process, "x").contains(&"/usr/bin/x".to_owned()));
    }
}
