//! What every command works with.

use std::collections::BTreeMap;

use clap::Args;
use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::Client;
use super::command::Global;
use super::exit::{Exit, Failure};
use super::output::{Format, FormatArg, Out, Report};
use super::settings::{Settings, in_run_dir};
use crate::domain::AppName;
use crate::wire::AppReport;

/// Client, output and settings of one invocation.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) out: Out,
    pub(super) settings: Settings,
    /// `--force` was given.
    pub(super) force: bool,
}

impl Context {
    /// # Errors
    /// If somebody who came over SSH asks for another server than the one they came through: the
    /// name they go by is that server's word.
    pub(super) fn new(global: &Global, mut settings: Settings) -> Result<Self, Failure> {
        match &global.run_dir {
            Some(_) if settings.is_remote() => {
                return Err(Failure::new(Exit::Refused, "--run-dir cannot be used over SSH"));
            }
            Some(directory) => settings.socket = in_run_dir(directory),
            None => {}
        }
        let client = Client {
            socket: settings.socket.clone(),
            actor: settings.actor.clone(),
            actor_from: settings.actor_from.clone(),
        };
        Ok(Self { client, out: Out::new(global.quiet), settings, force: global.force })
    }

    /// Options that stand behind a command which only the server knows.
    ///
    /// # Errors
    /// For the server's directory: it has been asked by now.
    pub(super) fn adopt(&mut self, global: &Global) -> Result<(), Failure> {
        if global.run_dir.is_some() {
            return Err(Failure::usage("--run-dir must stand before this command"));
        }
        self.force |= global.force;
        if global.quiet {
            self.out = Out::new(true);
        }
        Ok(())
    }

    /// An operation, whose lines are printed as they come.
    pub(super) async fn operation<B: Serialize, T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: &B,
    ) -> Result<T, Failure> {
        let out = &mut self.out;
        self.client.operation(method, path, body, |line| out.progress(line)).await
    }

    /// The names of all apps.
    pub(super) async fn all_apps(&self) -> Result<Vec<AppName>, Failure> {
        let apps: Vec<AppReport> = self.client.get("/apps").await?;
        Ok(apps.into_iter().map(|report| report.app.name).collect())
    }

    /// Prints the report below `/apps/{app}{path}` for one app or for all.
    pub(super) async fn report<T: Serialize + DeserializeOwned>(
        &mut self,
        args: &ReportArgs,
        path: &str,
        render: fn(&AppName, &T) -> Report,
    ) -> Result<(), Failure> {
        let apps = match &args.app {
            Some(app) => vec![app.clone()],
            None => self.all_apps().await?,
        };
        let mut reports = BTreeMap::new();
        for app in apps {
            let report: T = self.client.get(&format!("/apps/{app}{path}")).await?;
            match args.format.format {
                Format::Text => {
                    render(&app, &report).print(&mut self.out, args.field.as_deref())?
                }
                Format::Json if args.app.is_some() => return self.out.json(&report),
                Format::Json => {
                    reports.insert(app, report);
                }
            }
        }
        match args.format.format {
            Format::Text => Ok(()),
            Format::Json => self.out.json(&reports),
        }
    }
}

impl Context {
    /// [`Context::report`], or with `--global` the one at `path`.
    pub(super) async fn report_or_global<T, G>(
        &mut self,
        args: &GlobalReportArgs,
        path: &str,
        render: fn(&AppName, &T) -> Report,
        render_global: fn(&G) -> Report,
    ) -> Result<(), Failure>
    where
        T: Serialize + DeserializeOwned,
        G: Serialize + DeserializeOwned,
    {
        let GlobalReportArgs { report: args, global } = args;
        if !global {
            return self.report(args, path, render).await;
        }
        let found: G = self.client.get(path).await?;
        match args.format.format {
            Format::Json => self.out.json(&found),
            Format::Text => render_global(&found).print(&mut self.out, args.field.as_deref()),
        }
    }
}

/// The app that a command is about.
#[derive(Debug, Args)]
pub(super) struct AppArg {
    /// The app
    pub(super) app: AppName,
}

/// What reports take.
#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// The app; all apps if none
    pub(super) app: Option<AppName>,
    /// Only this label's value; what `--<label>` becomes
    #[arg(long, hide = true)]
    pub(super) field: Option<String>,
    #[command(flatten)]
    pub(super) format: FormatArg,
}

/// What reports take of what there is for all apps together, too.
#[derive(Debug, Args)]
pub(super) struct GlobalReportArgs {
    #[command(flatten)]
    report: ReportArgs,
    /// What holds for all apps that set nothing themselves
    #[arg(long)]
    global: bool,
}

/// How many lines of a log are shown if not told; Dokku's number.
const DEFAULT_LINES: usize = 100;

/// What commands take that show an app's log.
#[derive(Debug, Args)]
pub(super) struct LogArgs {
    #[command(flatten)]
    app: AppArg,
    /// Goes on with new lines as they come
    #[arg(long, short)]
    tail: bool,
    /// How many of the last lines
    #[arg(long, short, default_value_t = DEFAULT_LINES)]
    num: usize,
}

impl LogArgs {
    /// Where the app's log `name` is.
    pub(super) fn path(&self, name: &str) -> String {
        let Self { app: AppArg { app }, tail, num } = self;
        format!("/apps/{app}/{name}?num={num}&tail={tail}")
    }
}
