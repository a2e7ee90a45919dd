//! `dashboard:*`.

use clap::{Args, Subcommand};
use hyper::Method;

use super::context::Context;
use super::exit::Failure;
use super::output::{Format, FormatArg, time};
use crate::domain::Hostname;
use crate::wire::{DashboardDomain, DashboardReport, LoginCode, NewLoginCode};

/// `dashboard:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Prints a link with which one may sign in once
    Login(Login),
    /// Has the dashboard, the API and git over HTTP answer under a domain of their own
    Domain(Domain),
    /// Shows where the dashboard answers
    Report(Report),
}

/// `dashboard:domain`.
#[derive(Debug, Args)]
pub(super) struct Domain {
    /// The domain, whose DNS must lead to this machine
    #[arg(required_unless_present = "clear")]
    domain: Option<Hostname>,
    /// Takes the domain away
    #[arg(long, conflicts_with = "domain")]
    clear: bool,
    #[command(flatten)]
    format: FormatArg,
}

/// `dashboard:report`.
#[derive(Debug, Args)]
pub(super) struct Report {
    #[command(flatten)]
    format: FormatArg,
}

/// `dashboard:login`.
#[derive(Debug, Args)]
pub(super) struct Login {
    /// For whom; by default yourself, and `admin` for root
    #[arg(long)]
    user: Option<String>,
    #[command(flatten)]
    format: FormatArg,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Login(args) => login(context, args).await,
            Self::Domain(args) => {
                let change = DashboardDomain { domain: args.domain };
                let path = "/dashboard/domain";
                let report = context.client.send(Method::PUT, path, &change).await?;
                show(context, &report, args.format)
            }
            Self::Report(args) => {
                let report = context.client.get("/dashboard").await?;
                show(context, &report, args.format)
            }
        }
    }
}

async fn login(context: &mut Context, args: Login) -> Result<(), Failure> {
    let new = NewLoginCode { user: args.user };
    let code: LoginCode = context.client.send(Method::POST, "/dashboard/codes", &new).await?;
    match args.format.format {
        Format::Json => context.out.json(&code),
        Format::Text => {
            context.out.line(&code.link)?;
            let (user, until) = (&code.user, time(code.expires_at));
            context.out.detail(&format!("signs in as `{user}`, once, until {until}"))
        }
    }
}

fn show(context: &mut Context, report: &DashboardReport, format: FormatArg) -> Result<(), Failure> {
    if format.format == Format::Json {
        return context.out.json(report);
    }
    let listen = report.listen.as_deref().unwrap_or("nowhere: `[web] listen` is empty");
    context.out.line(&format!("Dashboard listen: {listen}"))?;
    let domain = report.domain.as_ref().map_or("none", Hostname::as_str);
    context.out.line(&format!("Dashboard domain: {domain}"))?;
    context.out.line(&format!("Dashboard urls:   {}", report.urls.join(" ")))?;
    match &report.app {
        None => context.out.detail("give it a domain: staithe dashboard:domain <domain>"),
        Some(app) => context.out.detail(&format!(
            "its certificate: staithe letsencrypt:enable {app}, or certs:add {app}"
        )),
    }
}
