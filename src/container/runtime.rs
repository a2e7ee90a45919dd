//! The façade: what the daemon can do with containers.

use std::os::fd::OwnedFd;
use std::time::Duration;

use super::io::{Io, Stdio};
use super::spec::{ContainerSpec, Limits, ProcessSpec, Signal, WindowSize};
use super::state::{ContainerState, ExitRecord, Stats};
use super::{Config, Error};

/// Creates, finds and ends containers. Cheap to clone; all clones are one runtime.
#[derive(Debug, Clone)]
pub struct Runtime {}

/// A container that is set up and waits for [`Runtime::start`].
#[derive(Debug)]
pub struct Created {
    /// As in the spec.
    pub id: String,
    /// Host pid of its PID 1.
    pub pid: u32,
    /// Its network namespace, for whoever attaches links to it.
    pub netns: OwnedFd,
    /// The caller's ends of its standard input and output.
    pub io: Io,
}

/// A process that was added to a running container. Dropping the handle kills it.
#[derive(Debug)]
pub struct ExecHandle {
    /// The caller's ends of its standard input and output; take it to use it.
    pub io: Option<Io>,
}

impl Runtime {
    /// Prepares the runtime and adopts the containers that an earlier one left.
    ///
    /// # Errors
    /// If the run directory, the cgroups, the program's protected copy or the system call filter
    /// cannot be had.
    pub fn open(config: Config) -> Result<Self, Error> {
        let _ = config;
        unimplemented!()
    }

    /// Sets a container up; nothing of the caller's runs until [`Runtime::start`]. If the daemon
    /// ends before that, so does the container.
    ///
    /// # Errors
    /// With nothing left behind.
    pub async fn create(&self, spec: &ContainerSpec, stdio: Stdio) -> Result<Created, Error> {
        let _ = (spec, stdio);
        unimplemented!()
    }

    /// Executes its process; returns once exec has succeeded.
    ///
    /// # Errors
    /// `Setup` if the program cannot be executed; the container has exited then.
    pub async fn start(&self, id: &str) -> Result<(), Error> {
        let _ = id;
        unimplemented!()
    }

    /// Waits until the container has exited, however long that takes. Cancel-safe; also for
    /// containers of an earlier daemon, and as often as wished.
    ///
    /// # Errors
    /// `NotFound`, or state that cannot be read.
    pub async fn wait(&self, id: &str) -> Result<ExitRecord, Error> {
        let _ = id;
        unimplemented!()
    }

    /// Sends a signal to the process (our init passes it on).
    ///
    /// # Errors
    /// `NotFound`; `WrongState` if it is not running.
    pub async fn signal(&self, id: &str, signal: Signal) -> Result<(), Error> {
        let _ = (id, signal);
        unimplemented!()
    }

    /// Sends `signal`, waits up to `grace`, then kills.
    ///
    /// # Errors
    /// As for [`Runtime::kill`].
    pub async fn stop(
        &self,
        id: &str,
        signal: Signal,
        grace: Duration,
    ) -> Result<ExitRecord, Error> {
        let _ = (id, signal, grace);
        unimplemented!()
    }

    /// Kills everything in it and waits for the end. No error if it has exited already.
    ///
    /// # Errors
    /// `Timeout` after `Config::kill_timeout`.
    pub async fn kill(&self, id: &str) -> Result<ExitRecord, Error> {
        let _ = id;
        unimplemented!()
    }

    /// All containers, those of earlier daemons too, by id. What is left of one whose creation
    /// was interrupted is listed as exited.
    ///
    /// # Errors
    /// If the run directory cannot be read.
    pub async fn list(&self) -> Result<Vec<ContainerState>, Error> {
        unimplemented!()
    }

    /// One container.
    ///
    /// # Errors
    /// `NotFound`, or state that cannot be read.
    pub async fn state(&self, id: &str) -> Result<ContainerState, Error> {
        let _ = id;
        unimplemented!()
    }

    /// Kills it if it is alive and removes all that was made for it; `rootfs.upper` stays.
    ///
    /// # Errors
    /// `NotFound`; otherwise try again.
    pub async fn delete(&self, id: &str) -> Result<(), Error> {
        let _ = id;
        unimplemented!()
    }

    /// Runs one more process inside, under the same limits and restrictions.
    ///
    /// # Errors
    /// `Setup` if the program cannot be executed.
    pub async fn exec(
        &self,
        id: &str,
        process: &ProcessSpec,
        stdio: Stdio,
    ) -> Result<ExecHandle, Error> {
        let _ = (id, process, stdio);
        unimplemented!()
    }

    /// The network namespace of a living container.
    ///
    /// # Errors
    /// `NotFound`; `WrongState` if it has exited.
    pub async fn netns(&self, id: &str) -> Result<OwnedFd, Error> {
        let _ = id;
        unimplemented!()
    }

    /// Changes the limits of a living container and of its group, at once.
    ///
    /// # Errors
    /// `Cgroup` where the kernel refuses, such as less memory than is in use.
    pub async fn set_limits(&self, id: &str, own: &Limits, group: &Limits) -> Result<(), Error> {
        let _ = (id, own, group);
        unimplemented!()
    }

    /// What it uses now.
    ///
    /// # Errors
    /// `NotFound`, or a cgroup file that cannot be read.
    pub async fn stats(&self, id: &str) -> Result<Stats, Error> {
        let _ = id;
        unimplemented!()
    }

    /// Freezes all its processes.
    ///
    /// # Errors
    /// `WrongState`; `Timeout` if the kernel cannot stop one of them.
    pub async fn pause(&self, id: &str) -> Result<(), Error> {
        let _ = id;
        unimplemented!()
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// `WrongState`, or `Cgroup`.
    pub async fn resume(&self, id: &str) -> Result<(), Error> {
        let _ = id;
        unimplemented!()
    }
}

impl ExecHandle {
    /// Waits for its end. Cancel-safe; may be called again.
    ///
    /// # Errors
    /// `Monitor` if its parent was killed.
    pub async fn wait(&mut self) -> Result<ExitRecord, Error> {
        unimplemented!()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it has ended.
    pub async fn signal(&self, signal: Signal) -> Result<(), Error> {
        let _ = signal;
        unimplemented!()
    }

    /// Kills it and its process group; `wait` then tells.
    ///
    /// # Errors
    /// None if it has ended.
    pub async fn kill(&self) -> Result<(), Error> {
        unimplemented!()
    }

    /// Resizes its terminal; see also [`super::TerminalStream::resize`].
    ///
    /// # Errors
    /// If it has none.
    pub fn resize(&self, size: WindowSize) -> Result<(), Error> {
        let _ = size;
        unimplemented!()
    }
}
