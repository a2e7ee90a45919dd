//! `routes:*`.

use clap::{Args, Subcommand};
use hyper::Method;

use super::context::{AppArg, Context};
use super::exit::Failure;
use super::output::{Format, FormatArg, Table};
use crate::domain::{AppName, PathRoute, ProcessType, RouteAddress};
use crate::wire::{NewRoute, ProcessReport, RouteRemoval, RouteReport};

/// `routes:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Leads a path of a domain, or a domain that no app has, to an app
    Add(Add),
    /// Removes a route
    Remove(Remove),
    /// Lists the routes of an app, or of all
    List(List),
}

/// `routes:add`.
#[derive(Debug, Args)]
pub(super) struct Add {
    #[command(flatten)]
    app: AppArg,
    /// `example.org/api`; `--force` if the domain is another app's
    #[arg(value_name = "domain/path")]
    address: RouteAddress,
    /// Which of the app's processes answers; it must listen on $PORT
    #[arg(long, default_value = "web", hide_default_value = true)]
    process_type: ProcessType,
    /// The app sees `/x` for `/api/x`, and `/api` as `X-Forwarded-Prefix`
    #[arg(long)]
    strip: bool,
}

/// `routes:remove`.
#[derive(Debug, Args)]
pub(super) struct Remove {
    #[command(flatten)]
    app: AppArg,
    /// As it was added
    #[arg(value_name = "domain/path")]
    address: RouteAddress,
}

/// `routes:list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// The app; all apps if none
    app: Option<AppName>,
    #[command(flatten)]
    format: FormatArg,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Add(args) => add(context, args).await,
            Self::Remove(args) => remove(context, args).await,
            Self::List(args) => list(context, &args).await,
        }
    }
}

async fn add(context: &mut Context, args: Add) -> Result<(), Failure> {
    let Add { app: AppArg { app }, address, process_type, strip } = args;
    context.out.step(&format!("Routing {address} to {app} {process_type}"))?;
    let path = format!("/apps/{app}/routes");
    let route = PathRoute { address, process_type, strip };
    let new = NewRoute { route, force: context.force };
    let process_type = new.route.process_type.clone();
    let _: Vec<RouteReport> = context.client.send(Method::POST, &path, &new).await?;
    let processes: ProcessReport = context.client.get(&format!("/apps/{app}/processes")).await?;
    let scale = processes.scale.iter().find(|(known, _)| *known == process_type);
    match scale {
        Some((_, 0)) => context.out.progress(&format!(
            " !     no `{process_type}` runs yet: staithe ps:scale {app} {process_type}=1"
        )),
        _ => Ok(()),
    }
}

async fn remove(context: &mut Context, args: Remove) -> Result<(), Failure> {
    let Remove { app: AppArg { app }, address } = args;
    context.out.step(&format!("Removing the route {address} of {app}"))?;
    let path = format!("/apps/{app}/routes");
    let removal = RouteRemoval { address };
    let _: Vec<RouteReport> = context.client.send(Method::DELETE, &path, &removal).await?;
    Ok(())
}

async fn list(context: &mut Context, args: &List) -> Result<(), Failure> {
    let path = match &args.app {
        Some(app) => format!("/apps/{app}/routes"),
        None => "/routes".to_owned(),
    };
    let routes: Vec<RouteReport> = context.client.get(&path).await?;
    match args.format.format {
        Format::Json => context.out.json(&routes),
        Format::Text => context.out.text(&table(&routes).render()),
    }
}

fn table(routes: &[RouteReport]) -> Table {
    let mut table = Table::new(&["ROUTE", "APP", "PROCESS TYPE", "STRIP", "DOMAIN OF"]);
    for RouteReport { app, route, domain_of } in routes {
        table.row([
            route.address.to_string(),
            app.to_string(),
            route.process_type.to_string(),
            route.strip.to_string(),
            domain_of.as_ref().map_or("-".to_owned(), ToString::to_string),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_listed_with_whose_domain_it_is() {
        let report = RouteReport {
            app: "api".parse().unwrap(),
            route: PathRoute {
                address: "shop.test/api".parse().unwrap(),
                process_type: ProcessType::web(),
                strip: true,
            },
            domain_of: Some("shop".parse().unwrap()),
        };
        let expected = "\
ROUTE          APP  PROCESS TYPE  STRIP  DOMAIN OF
shop.test/api  api  web           true   shop";
        assert_eq!(table(&[report]).render(), expected);
    }
}
