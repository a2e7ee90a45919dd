//! `maintenance:*` and `error-pages:*`.

use clap::{Args, Subcommand};
use hyper::Method;

use super::config::read_input;
use super::context::{AppArg, Context, ReportArgs};
use super::exit::Failure;
use super::output::Report;
use crate::domain::{AppName, PageOccasion};
use crate::wire::{MaintenanceReport, PageContent, PageReport, Switch};

/// `maintenance:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Maintenance {
    /// Answers all requests of an app by its maintenance page (503)
    #[command(visible_alias = "enable")]
    On(AppArg),
    /// Lets requests reach the app again
    #[command(visible_alias = "disable")]
    Off(AppArg),
    /// Shows whether an app is in maintenance
    Report(ReportArgs),
    /// Sets the maintenance page of an app
    CustomPage(CustomPage),
    /// Goes back to Staithe's maintenance page
    CustomPageRemove(AppArg),
}

/// `maintenance:custom-page`.
#[derive(Debug, Args)]
pub(super) struct CustomPage {
    #[command(flatten)]
    app: AppArg,
    /// An HTML file of at most 64 KiB; standard input if none or `-`
    file: Option<String>,
}

/// `error-pages:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum ErrorPages {
    /// Replaces one of Staithe's pages by one of the app's own
    Set(SetPage),
    /// Goes back to Staithe's page
    Clear(ClearPage),
    /// Shows which pages an app has
    Report(ReportArgs),
}

/// `error-pages:set`.
#[derive(Debug, Args)]
pub(super) struct SetPage {
    #[command(flatten)]
    page: ClearPage,
    /// An HTML file of at most 64 KiB; standard input if none or `-`
    file: Option<String>,
}

/// `error-pages:clear`.
#[derive(Debug, Args)]
pub(super) struct ClearPage {
    #[command(flatten)]
    app: AppArg,
    /// `maintenance`; `unavailable` (503: nothing runs or is ready); `error` (502, 504: the app
    /// failed)
    page: PageOccasion,
}

impl Maintenance {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::On(AppArg { app }) => switch(context, &app, true).await,
            Self::Off(AppArg { app }) => switch(context, &app, false).await,
            Self::Report(args) => context.report(&args, "/maintenance", report_maintenance).await,
            Self::CustomPage(CustomPage { app: AppArg { app }, file }) => {
                set_page(context, &app, PageOccasion::Maintenance, file).await
            }
            Self::CustomPageRemove(AppArg { app }) => {
                clear_page(context, &app, PageOccasion::Maintenance).await
            }
        }
    }
}

impl ErrorPages {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Set(SetPage { page: ClearPage { app: AppArg { app }, page }, file }) => {
                set_page(context, &app, page, file).await
            }
            Self::Clear(ClearPage { app: AppArg { app }, page }) => {
                clear_page(context, &app, page).await
            }
            Self::Report(args) => context.report(&args, "/pages", report_pages).await,
        }
    }
}

async fn switch(context: &mut Context, app: &AppName, enabled: bool) -> Result<(), Failure> {
    let doing = if enabled { "Enabling" } else { "Disabling" };
    context.out.step(&format!("{doing} maintenance mode for {app}"))?;
    let path = format!("/apps/{app}/maintenance");
    let _: MaintenanceReport = context.client.send(Method::PUT, &path, &Switch { enabled }).await?;
    Ok(())
}

async fn set_page(
    context: &mut Context,
    app: &AppName,
    page: PageOccasion,
    file: Option<String>,
) -> Result<(), Failure> {
    let html = read_input(context, file.as_deref())?;
    context.out.step(&format!("Setting the {page} page of {app}"))?;
    let path = format!("/apps/{app}/pages/{page}");
    let _: PageReport = context.client.send(Method::PUT, &path, &PageContent { html }).await?;
    Ok(())
}

async fn clear_page(
    context: &mut Context,
    app: &AppName,
    page: PageOccasion,
) -> Result<(), Failure> {
    context.out.step(&format!("Clearing the {page} page of {app}"))?;
    let path = format!("/apps/{app}/pages/{page}");
    let _: PageReport = context.client.send(Method::DELETE, &path, &()).await?;
    Ok(())
}

fn report_maintenance(app: &AppName, maintenance: &MaintenanceReport) -> Report {
    let mut report = Report::new(format!("{app} maintenance information"));
    report.row("Maintenance enabled", maintenance.enabled);
    report.row("Maintenance custom page", maintenance.page.is_some());
    report
}

fn report_pages(app: &AppName, pages: &PageReport) -> Report {
    let mut report = Report::new(format!("{app} error pages information"));
    for occasion in PageOccasion::ALL {
        let own = pages.pages.iter().find(|page| page.when == occasion);
        let text = own.map_or("default".to_owned(), |page| format!("sha256:{}", page.id));
        report.row(format!("Page {occasion}"), text);
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::rendered;
    use crate::wire::Page;

    #[test]
    fn pages_and_maintenance_are_reported() {
        let app = "shop".parse().unwrap();
        let id = "ab".repeat(32);
        let page = Page { when: PageOccasion::Error, id: id.parse().unwrap() };
        let expected = format!(
            "\
=====> shop error pages information
       Page maintenance:              default
       Page unavailable:              default
       Page error:                    sha256:{id}"
        );
        assert_eq!(rendered(&report_pages(&app, &PageReport { pages: vec![page] })), expected);
        let maintenance = MaintenanceReport { enabled: true, page: None };
        let expected = "\
=====> shop maintenance information
       Maintenance enabled:           true
       Maintenance custom page:       false";
        assert_eq!(rendered(&report_maintenance(&app, &maintenance)), expected);
    }
}
