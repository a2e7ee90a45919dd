//! `ports:*`.

use clap::{Args, Subcommand};
use hyper::Method;
use serde::Serialize;

use super::context::{AppArg, Context, ReportArgs};
use super::exit::Failure;
use super::output::{Format, FormatArg, Report, Table};
use crate::domain::{AppName, PortMapping, PortSelector};
use crate::wire::{PortList, PortRemoval, PortReport};

/// `ports:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Lists the port mappings of an app
    List(List),
    /// Shows the port mappings of an app, or of all
    Report(ReportArgs),
    /// Adds port mappings to an app
    Add(Mappings),
    /// Replaces the port mappings of an app
    Set(Mappings),
    /// Removes port mappings of an app
    Remove(Selectors),
    /// Removes an app's own port mappings; the default ones are in force again
    Clear(AppArg),
}

/// `ports:list`.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    app: AppArg,
    #[command(flatten)]
    format: FormatArg,
}

/// `ports:add` and `ports:set`.
#[derive(Debug, Args)]
pub(super) struct Mappings {
    #[command(flatten)]
    app: AppArg,
    /// `http:80:5000`: http, https, grpc or grpcs, the machine's port, the app's port
    #[arg(required = true, value_name = "scheme:host-port:container-port")]
    mapping: Vec<PortMapping>,
}

/// `ports:remove`.
#[derive(Debug, Args)]
pub(super) struct Selectors {
    #[command(flatten)]
    app: AppArg,
    /// Host ports, or whole mappings
    #[arg(required = true, value_name = "host-port")]
    mapping: Vec<PortSelector>,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::List(args) => list(context, &args).await,
            Self::Report(args) => context.report(&args, "/ports", report).await,
            Self::Add(Mappings { app, mapping }) => {
                let list = PortList { mappings: mapping };
                change(context, Method::POST, &app.app, &list).await
            }
            Self::Set(Mappings { app, mapping }) => {
                let list = PortList { mappings: mapping };
                change(context, Method::PUT, &app.app, &list).await
            }
            Self::Remove(Selectors { app, mapping }) => {
                let removal = PortRemoval { mappings: mapping };
                change(context, Method::DELETE, &app.app, &removal).await
            }
            Self::Clear(AppArg { app }) => {
                change(context, Method::PUT, &app, &PortList::default()).await
            }
        }
    }
}

async fn change<B: Serialize>(
    context: &mut Context,
    method: Method,
    app: &AppName,
    body: &B,
) -> Result<(), Failure> {
    context.out.step(&format!("Setting ports of {app}"))?;
    let path = format!("/apps/{app}/ports");
    let report: PortReport = context.client.send(method, &path, body).await?;
    context.out.detail(&format!("{app}: {}", text(&report.mappings)))
}

async fn list(context: &mut Context, args: &List) -> Result<(), Failure> {
    let app = &args.app.app;
    let report: PortReport = context.client.get(&format!("/apps/{app}/ports")).await?;
    if args.format.format == Format::Json {
        return context.out.json(&report.mappings);
    }
    context.out.header(&format!("Port mappings for {app}"))?;
    context.out.text(&table(&report.mappings).render())
}

fn table(mappings: &[PortMapping]) -> Table {
    let mut table = Table::new(&["SCHEME", "HOST PORT", "CONTAINER PORT"]);
    for mapping in mappings {
        let PortMapping { scheme, host, container } = mapping;
        table.row([scheme.as_str().to_owned(), host.to_string(), container.to_string()]);
    }
    table
}

fn report(app: &AppName, ports: &PortReport) -> Report {
    let mut report = Report::new(format!("{app} ports information"));
    report.row("Ports map", text(&ports.mappings));
    report.row("Ports map custom", ports.custom);
    report.row("Ports app port", ports.port);
    report
}

fn text(mappings: &[PortMapping]) -> String {
    mappings.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::rendered;

    #[test]
    fn mappings_are_listed_and_reported() {
        let mappings: Vec<PortMapping> =
            ["http:80:5000", "grpcs:8443:9000"].iter().map(|text| text.parse().unwrap()).collect();
        let expected = "\
SCHEME  HOST PORT  CONTAINER PORT
http    80         5000
grpcs   8443       9000";
        assert_eq!(table(&mappings).render(), expected);
        let ports = PortReport { mappings, custom: true, port: 5000 };
        let expected = "\
=====> shop ports information
       Ports map:                     http:80:5000 grpcs:8443:9000
       Ports map custom:              true
       Ports app port:                5000";
        assert_eq!(rendered(&report(&"shop".parse().unwrap(), &ports)), expected);
    }
}
