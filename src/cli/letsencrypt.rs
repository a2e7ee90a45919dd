//! `letsencrypt:*`.

use clap::{Args, Subcommand};
use hyper::Method;

use super::context::{AppArg, Context, GlobalReportArgs};
use super::exit::Failure;
use super::output::{Format, FormatArg, Report, Table, span, time};
use crate::domain::{AcmeSettings, AppName};
use crate::wire::{AcmeChange, AcmeDomain, AcmeOutcome, AcmeRenew, AcmeReport};

/// `letsencrypt:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Has certificates for all domains of an app, now and from now on
    Enable(AppArg),
    /// Ends automatic certificates of an app and removes those it has
    Disable(AppArg),
    /// Lists automatic certificates, their ends and renewals
    List(FormatArg),
    /// Renews what is due, of an app or of all; with --force what is not due as well
    AutoRenew(AutoRenew),
    /// Has an app's automatic certificates declared void, and ends them
    Revoke(AppArg),
    /// Sets email, server, challenge, graceperiod, ca-bundle or dns-hook. Setting an e-mail address
    /// agrees to the authority's terms of service
    Set(Set),
    /// Shows what is in force, and how far each domain has come
    Report(GlobalReportArgs),
    /// Prints whether an app has automatic certificates
    Active(AppArg),
}

/// `letsencrypt:auto-renew`.
#[derive(Debug, Args)]
pub(super) struct AutoRenew {
    /// The app; all apps if none
    app: Option<AppName>,
}

/// `letsencrypt:set`.
#[derive(Debug, Args)]
pub(super) struct Set {
    /// For all apps that set nothing themselves; then no app is named
    #[arg(long)]
    global: bool,
    /// The app, unless --global is given; then the property; then its value, or none to unset it
    #[arg(required = true, num_args = 1..=3, value_name = "app-property-value")]
    words: Vec<String>,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Enable(AppArg { app }) => operate(context, &app, "enable", &()).await,
            Self::Revoke(AppArg { app }) => operate(context, &app, "revoke", &()).await,
            Self::Disable(AppArg { app }) => disable(context, &app).await,
            Self::List(format) => list(context, format).await,
            Self::AutoRenew(args) => renew(context, args).await,
            Self::Set(args) => set(context, args).await,
            Self::Report(args) => {
                context.report_or_global(&args, "/letsencrypt", report, global_report).await
            }
            Self::Active(AppArg { app }) => active(context, &app).await,
        }
    }
}

async fn operate<B: serde::Serialize>(
    context: &mut Context,
    app: &AppName,
    verb: &str,
    body: &B,
) -> Result<(), Failure> {
    let path = format!("/apps/{app}/letsencrypt/{verb}");
    let _: AcmeOutcome = context.operation(Method::POST, &path, body).await?;
    Ok(())
}

async fn disable(context: &mut Context, app: &AppName) -> Result<(), Failure> {
    context.out.step(&format!("Disabling automatic certificates of {app}"))?;
    let path = format!("/apps/{app}/letsencrypt/disable");
    let _: AcmeReport = context.client.send(Method::POST, &path, &()).await?;
    Ok(())
}

async fn renew(context: &mut Context, args: AutoRenew) -> Result<(), Failure> {
    let request = AcmeRenew { force: context.force };
    match &args.app {
        Some(app) => operate(context, app, "renew", &request).await,
        None => {
            let _: AcmeOutcome =
                context.operation(Method::POST, "/letsencrypt/renew", &request).await?;
            Ok(())
        }
    }
}

async fn list(context: &mut Context, format: FormatArg) -> Result<(), Failure> {
    let domains: Vec<AcmeDomain> = context.client.get("/letsencrypt/certificates").await?;
    match format.format {
        Format::Json => context.out.json(&domains),
        Format::Text => context.out.text(&table(&domains).render()),
    }
}

fn table(domains: &[AcmeDomain]) -> Table {
    let mut table = Table::new(&[
        "APP NAME",
        "DOMAIN",
        "CERTIFICATE EXPIRY",
        "TIME BEFORE EXPIRY",
        "TIME BEFORE RENEWAL",
    ]);
    for domain in domains {
        table.row([
            domain.app.to_string(),
            domain.domain.to_string(),
            domain.not_after.map_or("none yet".into(), time),
            left(domain.expires_in_ms),
            left(domain.renewed_in_ms),
        ]);
    }
    table
}

fn left(milliseconds: Option<i64>) -> String {
    match milliseconds.map(u64::try_from) {
        None => String::new(),
        Some(Ok(left)) => span(std::time::Duration::from_millis(left)),
        Some(Err(_)) => "over".into(),
    }
}

/// App, property and value; with `--global` no app.
fn change(args: Set) -> Result<(Option<AppName>, AcmeChange), Failure> {
    let mut words = args.words.into_iter();
    let app = match args.global {
        true => None,
        false => Some(words.next().unwrap_or_default().parse()?),
    };
    let key = words.next().ok_or_else(|| {
        Failure::usage("the property is missing")
            .hint("for example `staithe letsencrypt:set --global email ops@example.com`")
    })?;
    let value = words.next();
    match words.next() {
        None => Ok((app, AcmeChange { key, value })),
        Some(_) => Err(Failure::usage("with --global no app is named")),
    }
}

async fn set(context: &mut Context, args: Set) -> Result<(), Failure> {
    let (app, change) = change(args)?;
    match &change.value {
        Some(value) => context.out.step(&format!("Setting {} to {value}", change.key))?,
        None => context.out.step(&format!("Unsetting {}", change.key))?,
    }
    let path = match app {
        Some(app) => format!("/apps/{app}/letsencrypt"),
        None => "/letsencrypt".to_owned(),
    };
    let _: AcmeReport = context.client.send(Method::PATCH, &path, &change).await?;
    Ok(())
}

fn global_report(found: &AcmeReport) -> Report {
    let mut report = Report::new("Global letsencrypt information");
    rows(&mut report, found);
    report
}

fn rows(report: &mut Report, found: &AcmeReport) {
    report.row("Letsencrypt enabled", found.enabled);
    report.row("Letsencrypt computed email", found.email.clone().unwrap_or_default());
    report.row("Letsencrypt computed server", &found.server);
    report.row("Letsencrypt computed challenge", found.challenge.as_str());
    own_rows(report, "global", &found.global);
}

fn own_rows(report: &mut Report, scope: &str, settings: &AcmeSettings) {
    let path = |path: &Option<std::path::PathBuf>| {
        path.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    };
    let values = [
        ("email", settings.email.clone().unwrap_or_default()),
        ("server", settings.server.clone().unwrap_or_default()),
        ("challenge", settings.challenge.map(|kind| kind.as_str().to_owned()).unwrap_or_default()),
        ("graceperiod", settings.grace_s.map(|grace| grace.to_string()).unwrap_or_default()),
        ("ca bundle", path(&settings.ca_bundle)),
        ("dns hook", path(&settings.dns_hook)),
    ];
    for (label, value) in values {
        report.row(format!("Letsencrypt {scope} {label}"), value);
    }
}

fn report(app: &AppName, found: &AcmeReport) -> Report {
    let mut report = Report::new(format!("{app} letsencrypt information"));
    let active = found.domains.iter().any(|domain| domain.not_after.is_some());
    report.row("Letsencrypt active", active);
    rows(&mut report, found);
    own_rows(&mut report, "app", &found.app);
    for domain in &found.domains {
        report.row(format!("Letsencrypt {}", domain.domain), standing(domain));
    }
    report
}

/// How a domain stands, in one line.
fn standing(domain: &AcmeDomain) -> String {
    if let Some(why) = &domain.skipped {
        return format!("not asked for: {why}");
    }
    let certificate = match (domain.not_after, domain.renew_at) {
        (Some(end), Some(renewal)) => {
            format!("valid until {}, renewed at {}", time(end), time(renewal))
        }
        _ => "no certificate yet".into(),
    };
    match (&domain.last_failure, domain.next_attempt) {
        (Some(why), Some(next)) => {
            format!(
                "{certificate}; failed {} times, next at {}: {why}",
                domain.failures,
                time(next)
            )
        }
        _ => certificate,
    }
}

async fn active(context: &mut Context, app: &AppName) -> Result<(), Failure> {
    let found: AcmeReport = context.client.get(&format!("/apps/{app}/letsencrypt")).await?;
    let active = found.enabled && found.domains.iter().any(|domain| domain.not_after.is_some());
    context.out.line(if active { "true" } else { "false" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    fn parse(
        global: bool,
        words: &[&str],
    ) -> Result<(Option<String>, String, Option<String>), Failure> {
        let words = words.iter().map(ToString::to_string).collect();
        let (app, change) = change(Set { global, words })?;
        Ok((app.map(|app| app.to_string()), change.key, change.value))
    }

    #[test]
    fn a_setting_is_an_apps_or_all_apps() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            parse(true, &["email", "a@b.c"]).unwrap(),
            (None, "email".into(), text("a@b.c"))
        );
        assert_eq!(
            parse(false, &["shop", "server"]).unwrap(),
            (text("shop"), "server".into(), None)
        );
        parse(true, &["shop", "email", "a@b.c"]).unwrap_err();
        parse(false, &["shop"]).unwrap_err();
    }

    #[test]
    fn a_domain_is_listed_with_its_end_and_its_failures() {
        let mut domain = AcmeDomain {
            app: "shop".parse().unwrap(),
            domain: "shop.test".parse().unwrap(),
            not_after: Some(Timestamp(1_767_323_045_000)),
            renew_at: Some(Timestamp(1_767_236_645_000)),
            expires_in_ms: Some(90_000_000),
            renewed_in_ms: Some(-1),
            failures: 0,
            last_failure: None,
            next_attempt: None,
            skipped: None,
        };
        let listed = "\
APP NAME  DOMAIN     CERTIFICATE EXPIRY    TIME BEFORE EXPIRY  TIME BEFORE RENEWAL
shop      shop.test  2026-01-02T03:04:05Z  1d 1h               over";
        assert_eq!(table(&[domain.clone()]).render(), listed);
        domain.failures = 2;
        domain.last_failure = Some("port 80 is closed".into());
        domain.next_attempt = domain.not_after;
        let standing = standing(&domain);
        assert!(
            standing.ends_with("failed 2 times, next at 2026-01-02T03:04:05Z: port 80 is closed")
        );
    }
}
