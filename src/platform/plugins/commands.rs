//! `<plugin>:<command>`: a program of a plugin's on the caller's terminal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Plugin;
use super::cage::{Cage, Call};
use crate::container::Stdio;
use crate::domain::{Actor, PluginName};
use crate::platform::{Error, Kind, Platform, Result, RunRequest, Session, clock};
use crate::plugin::{Hook, Request};
use crate::support::{report, tasks};

/// The longest a command may take, its user's thinking included.
const DEADLINE: Duration = Duration::from_secs(600);

/// A command that runs, as a session holds it.
#[derive(Debug)]
pub(in crate::platform) struct Running {
    cage: Cage,
    plugin: Arc<Plugin>,
    ends_at: tokio::time::Instant,
    /// Whether what follows from it is in force.
    settled: AtomicBool,
}

impl Drop for Running {
    /// Its user went away: what it did until then counts all the same.
    fn drop(&mut self) {
        if self.settled.load(Ordering::Relaxed) {
            return;
        }
        let (platform, plugin) = (self.cage.platform().clone(), Arc::clone(&self.plugin));
        tasks::spawn("plugin-command", async move {
            if let Err(error) = platform.command_ended(&plugin).await {
                let error = report(&error);
                tracing::error!(plugin = plugin.name().as_str(), error, "cannot ask for routes");
            }
        });
    }
}

impl Running {
    /// The program's exit code, once what follows from it is in force. Cancel-safe.
    pub(in crate::platform) async fn wait(&self) -> Result<i32> {
        let platform = self.cage.platform();
        let wait = platform.runtime.wait(&self.cage.container);
        let code = match tokio::time::timeout_at(self.ends_at, wait).await {
            Ok(record) => crate::platform::session::exit_code(&record?),
            Err(_) => {
                // The caller sees the end of its streams; 124 is what timeout(1) says.
                platform.runtime.kill(&self.cage.container).await?;
                124
            }
        };
        platform.command_ended(&self.plugin).await?;
        self.settled.store(true, Ordering::Relaxed);
        Ok(code)
    }
}

impl Platform {
    /// What a command is told of the apps: their names, separated by spaces.
    fn names_of_apps(&self) -> Result<String> {
        let apps = self.store.apps()?;
        let names: Vec<_> = apps.iter().map(|app| app.name.as_str()).collect();
        Ok(names.join(" "))
    }

    /// Runs a command of a plugin's: `request.args` are its name and its arguments.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if the plugin is off; `Failed` if it cannot be run.
    pub async fn plugin_command(
        &self,
        actor: &Actor,
        name: &PluginName,
        request: RunRequest,
    ) -> Result<Session> {
        let plugin = self.enabled_plugin(name)?;
        let mut args = request.args.clone().into_iter();
        let wanted = args.next().unwrap_or_default();
        let command = plugin.manifest().command(&wanted).ok_or_else(|| {
            Error::new(Kind::NotFound, format!("plugin `{name}` has no command `{wanted}`"))
                .hint(format!("run `staithe plugin:info {name}` to see its commands"))
        })?;
        let program = command.run.as_deref().ok_or_else(|| {
            Error::new(Kind::Invalid, format!("`{wanted}` sets a setting and runs nothing"))
                .hint(format!("use `staithe plugin:set {name}`"))
        })?;
        let mut told = Request::new(Hook::Event, plugin.manifest(), super::rfc3339(clock::now()));
        told.settings = self.settings_in_force(&plugin, None)?;
        let mut env = told.environment(plugin.manifest());
        env.retain(|(key, _)| key != "STAITHE_HOOK" && key != "STAITHE_APP");
        env.push(("STAITHE_COMMAND".into(), wanted.clone()));
        env.push(("STAITHE_ACTOR".into(), actor.name.clone()));
        env.push(("STAITHE_APPS".into(), self.names_of_apps()?));
        let call = Call {
            program,
            args: args.collect(),
            env,
            input: Vec::new(),
            deadline: DEADLINE,
            asked: false,
        };
        let stdio = match request.terminal {
            Some(_) => Stdio::Terminal,
            None => Stdio::Pipes,
        };
        let permit = self.command_permit()?;
        let (cage, io) = self.open_cage(&plugin, &call, (stdio, Some(&request)), permit).await?;
        let message = format!("`{name}:{wanted}` was run");
        self.note_named(None, "plugin.command", &message, actor);
        let ends_at = tokio::time::Instant::now() + DEADLINE;
        Session::of_command(io, Running { cage, plugin, ends_at, settled: AtomicBool::new(false) })
    }
}
