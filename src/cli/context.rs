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
        let client = Client { socket: settings.socket.clone(), actor: settings.actor.clone() };
        Ok(Self { client, out: Out::new(global.quiet), settings, force: global.force })
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
