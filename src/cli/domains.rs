//! `domains:*`.

use clap::{Args, Subcommand};
use hyper::Method;

use super::context::{AppArg, Context, GlobalReportArgs};
use super::exit::Failure;
use super::output::Report;
use crate::domain::{AppName, Hostname};
use crate::wire::{DomainList, DomainReport};

/// `domains:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Adds domains to an app
    Add(AppDomains),
    /// Removes domains from an app
    Remove(AppDomains),
    /// Replaces the domains of an app
    Set(AppDomains),
    /// Removes an app's own domains; its default domains serve again
    #[command(visible_alias = "reset")]
    Clear(AppArg),
    /// Shows an app's domains, or the global ones
    Report(GlobalReportArgs),
    /// Adds global domains; an app `shop` is `shop.<global domain>` by default
    AddGlobal(Domains),
    /// Removes global domains
    RemoveGlobal(Domains),
    /// Replaces the global domains
    SetGlobal(Domains),
    /// Removes all global domains
    ClearGlobal,
}

/// Domains of an app.
#[derive(Debug, Args)]
pub(super) struct AppDomains {
    #[command(flatten)]
    app: AppArg,
    #[command(flatten)]
    domains: Domains,
}

/// Some domains.
#[derive(Debug, Args)]
pub(super) struct Domains {
    /// Host names, `*.` wildcards, or `_` for all that no other app has
    #[arg(required = true)]
    domain: Vec<Hostname>,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Add(args) => change(context, Method::POST, args, "Adding").await,
            Self::Remove(args) => change(context, Method::DELETE, args, "Removing").await,
            Self::Set(args) => change(context, Method::PUT, args, "Setting").await,
            Self::Clear(AppArg { app }) => clear(context, app).await,
            Self::Report(args) => {
                context.report_or_global(&args, "/domains", report, global_report).await
            }
            Self::AddGlobal(args) => add_global(context, args).await,
            Self::RemoveGlobal(args) => remove_global(context, &args).await,
            Self::SetGlobal(args) => set_global(context, args.domain).await,
            Self::ClearGlobal => set_global(context, Vec::new()).await,
        }
    }
}

async fn change(
    context: &mut Context,
    method: Method,
    args: AppDomains,
    doing: &str,
) -> Result<(), Failure> {
    let AppDomains { app: AppArg { app }, domains: Domains { domain } } = args;
    context.out.step(&format!("{doing} {}", names(&domain)))?;
    let path = format!("/apps/{app}/domains");
    let list = DomainList { domains: domain };
    let report: DomainReport = context.client.send(method, &path, &list).await?;
    context.out.detail(&format!("{app}: {}", names(&report.domains)))
}

async fn clear(context: &mut Context, app: AppName) -> Result<(), Failure> {
    context.out.step(&format!("Clearing domains of {app}"))?;
    let path = format!("/apps/{app}/domains");
    let report: DomainReport =
        context.client.send(Method::PUT, &path, &DomainList::default()).await?;
    context.out.detail(&format!("{app}: {}", names(&report.domains)))
}

async fn global(context: &Context) -> Result<Vec<Hostname>, Failure> {
    let list: DomainList = context.client.get("/domains").await?;
    Ok(list.domains)
}

async fn add_global(context: &mut Context, args: Domains) -> Result<(), Failure> {
    let mut domains = global(context).await?;
    for domain in args.domain {
        if !domains.contains(&domain) {
            domains.push(domain);
        }
    }
    set_global(context, domains).await
}

async fn remove_global(context: &mut Context, args: &Domains) -> Result<(), Failure> {
    let mut domains = global(context).await?;
    domains.retain(|domain| !args.domain.contains(domain));
    set_global(context, domains).await
}

async fn set_global(context: &mut Context, domains: Vec<Hostname>) -> Result<(), Failure> {
    context.out.step(&format!("Setting global domains to {}", or_none(&names(&domains))))?;
    let list = DomainList { domains };
    let _: DomainList = context.client.send(Method::PUT, "/domains", &list).await?;
    Ok(())
}

fn global_report(list: &DomainList) -> Report {
    let mut report = Report::new("Global domains information");
    global_rows(&mut report, &list.domains);
    report
}

fn report(app: &AppName, domains: &DomainReport) -> Report {
    let mut report = Report::new(format!("{app} domains information"));
    report.row("Domains app enabled", !domains.domains.is_empty());
    report.row("Domains app vhosts", names(&domains.domains));
    report.row("Domains app custom", domains.custom);
    global_rows(&mut report, &domains.global);
    report
}

fn global_rows(report: &mut Report, domains: &[Hostname]) {
    report.row("Domains global enabled", !domains.is_empty());
    report.row("Domains global vhosts", names(domains));
}

fn names(domains: &[Hostname]) -> String {
    domains.iter().map(Hostname::as_str).collect::<Vec<_>>().join(" ")
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::rendered;

    #[test]
    fn domains_are_reported_under_dokkus_labels() {
        let host = |name: &str| name.parse::<Hostname>().unwrap();
        let domains = DomainReport {
            domains: vec![host("shop.example.com"), host("www.shop.io")],
            custom: true,
            global: vec![host("example.com")],
        };
        let expected = "\
=====> shop domains information
       Domains app enabled:           true
       Domains app vhosts:            shop.example.com www.shop.io
       Domains app custom:            true
       Domains global enabled:        true
       Domains global vhosts:         example.com";
        assert_eq!(rendered(&report(&"shop".parse().unwrap(), &domains)), expected);
    }
}
