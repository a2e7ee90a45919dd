//! Backups, as verbs of every service type: `postgres:backup`, `mysql:restore`.

use std::io::Read;

use clap::{Args, Subcommand};
use hyper::Method;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::output::{Format, FormatArg, Report, Table, bytes, span, time};
use crate::domain::{BackupId, BackupPlace, PluginName, Secret, ServiceName};
use crate::wire::{
    BackupChange, BackupChoice, BackupReport, BackupRequest, BackupStatus, RestoreRequest, Restored,
};

/// The longest secret that is read from standard input.
const MAX_SECRET: u64 = 4096;

/// The verbs of backups.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Makes a backup, restores it into a scratch service and compares. Only then is it good
    Backup(Backup),
    /// Lists the backups of a service, also of one that is gone
    BackupList(List),
    /// Shows how a service stands with its backups, or one of them
    BackupInfo(Info),
    /// Restores a backup into a scratch service and compares, again
    BackupVerify(Choice),
    /// Removes a backup; the last verified one only with --force
    BackupRemove(Remove),
    /// Makes backups of a service by itself, at times such as '0 3 * * *' or @daily (UTC)
    BackupSchedule(Schedule),
    /// Ends that
    BackupUnschedule(ServiceArg),
    /// Prints the schedule
    BackupScheduleCat(ServiceArg),
    /// Sets place, keep, keep-days, s3-endpoint, s3-region, s3-access-key-id or s3-secret-access-key
    BackupSet(Set),
    /// Sets the credentials of a bucket, in Dokku's order; `-` reads the secret from standard input
    BackupAuth(Auth),
    /// Forgets them
    BackupDeauth(ServiceArg),
    /// Puts a backup back: the last verified one, unless another is named. What is there before is
    /// backed up first
    Restore(Restore),
}

/// The service that a command is about.
#[derive(Debug, Args)]
pub(super) struct ServiceArg {
    /// The service
    service: ServiceName,
}

/// `backup`.
#[derive(Debug, Args)]
pub(super) struct Backup {
    /// The service
    service: ServiceName,
    /// `local`, `s3://bucket/prefix` or a bucket's name; what is set if none
    place: Option<String>,
}

/// `backup-list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// The service
    service: ServiceName,
    #[command(flatten)]
    format: FormatArg,
}

/// `backup-info`.
#[derive(Debug, Args)]
pub(super) struct Info {
    /// The service
    service: ServiceName,
    /// One of its backups
    backup: Option<BackupId>,
    #[command(flatten)]
    format: FormatArg,
}

/// `backup-verify`.
#[derive(Debug, Args)]
pub(super) struct Choice {
    /// The service
    service: ServiceName,
    /// The backup; the newest if none
    backup: Option<BackupId>,
}

/// `backup-remove`.
#[derive(Debug, Args)]
pub(super) struct Remove {
    /// The service
    service: ServiceName,
    /// The backup
    backup: BackupId,
}

/// `backup-schedule`.
#[derive(Debug, Args)]
pub(super) struct Schedule {
    /// The service
    service: ServiceName,
    /// Five fields as in a crontab, or @hourly, @daily, @weekly, @monthly
    schedule: String,
    /// `local`, `s3://bucket/prefix` or a bucket's name, for all of its backups
    place: Option<String>,
}

/// `backup-set`.
#[derive(Debug, Args)]
pub(super) struct Set {
    /// For all services that set nothing themselves; then none is named
    #[arg(long)]
    global: bool,
    /// The service, unless --global is given; then the property; then its value, `-` for a line of
    /// standard input, or none to unset it
    #[arg(required = true, num_args = 1..=3, value_name = "service-property-value")]
    words: Vec<String>,
}

/// `backup-auth`.
#[derive(Debug, Args)]
pub(super) struct Auth {
    /// The service
    service: ServiceName,
    /// The public half of the credentials
    access_key_id: String,
    /// The secret half
    secret_access_key: String,
    /// The bucket's region
    region: Option<String>,
    /// Accepted for Dokku's sake; signatures are always of version 4
    #[arg(hide = true)]
    signature_version: Option<String>,
    /// A server other than Amazon's
    endpoint_url: Option<String>,
}

/// `restore`.
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The service that the backup is of; one that is gone is made again
    service: ServiceName,
    /// The backup; the last verified one if none
    backup: Option<BackupId>,
    /// Leaves the service alone, and makes a new one of this name
    #[arg(long, value_name = "name")]
    to: Option<ServiceName>,
}

impl Verb {
    /// Carries the verb out for services of `kind`.
    pub(super) async fn run(self, context: &mut Context, kind: &PluginName) -> Result<(), Failure> {
        match self {
            Self::Backup(args) => backup(context, kind, args).await,
            Self::BackupList(args) => list(context, kind, args).await,
            Self::BackupInfo(args) => info(context, kind, args).await,
            Self::BackupVerify(args) => {
                let path = format!("{}/backups/verify", base(kind, &args.service));
                let choice = BackupChoice { id: args.backup };
                let _: BackupReport = context.operation(Method::POST, &path, &choice).await?;
                Ok(())
            }
            Self::BackupRemove(args) => remove(context, kind, args).await,
            Self::BackupSchedule(args) => schedule(context, kind, args).await,
            Self::BackupUnschedule(args) => {
                context.out.step(&format!("Ending scheduled backups of {}", args.service))?;
                change(context, kind, Some(&args.service), "schedule", "").await
            }
            Self::BackupScheduleCat(args) => {
                let status = status(context, kind, &args.service).await?;
                context.out.line(status.schedule.as_deref().unwrap_or_default())
            }
            Self::BackupSet(args) => set(context, kind, args).await,
            Self::BackupAuth(args) => auth(context, kind, args).await,
            Self::BackupDeauth(args) => {
                context.out.step(&format!("Forgetting the credentials of {}", args.service))?;
                for key in ["s3-access-key-id", "s3-secret-access-key", "s3-endpoint"] {
                    change(context, kind, Some(&args.service), key, "").await?;
                }
                Ok(())
            }
            Self::Restore(args) => restore(context, kind, args).await,
        }
    }
}

fn base(kind: &PluginName, service: &ServiceName) -> String {
    format!("/services/{kind}/{service}")
}

/// Dokku names a bucket; we also have other places.
fn place(text: &str) -> Result<BackupPlace, Failure> {
    match text == "local" || text.contains("://") {
        true => Ok(text.parse()?),
        false => Ok(format!("s3://{text}").parse()?),
    }
}

async fn backup(context: &mut Context, kind: &PluginName, args: Backup) -> Result<(), Failure> {
    let path = format!("{}/backups", base(kind, &args.service));
    let place = args.place.as_deref().map(place).transpose()?;
    let made: BackupReport =
        context.operation(Method::POST, &path, &BackupRequest { place }).await?;
    match context.out.is_quiet() {
        true => context.out.line(made.id.as_str()),
        false => Ok(()),
    }
}

async fn list(context: &mut Context, kind: &PluginName, args: List) -> Result<(), Failure> {
    let path = format!("{}/backups", base(kind, &args.service));
    let backups: Vec<BackupReport> = context.client.get(&path).await?;
    match args.format.format {
        Format::Json => context.out.json(&backups),
        Format::Text if context.out.is_quiet() => {
            backups.iter().try_for_each(|backup| context.out.line(backup.id.as_str()))
        }
        Format::Text => context.out.text(&table(&backups).render()),
    }
}

fn table(backups: &[BackupReport]) -> Table {
    let mut table = Table::new(&["BACKUP", "STATE", "AGE", "SIZE", "CAUSE", "PLACE", "NOTE"]);
    for backup in backups {
        table.row([
            backup.id.to_string(),
            backup.state.clone(),
            age(backup.age_ms),
            bytes(backup.bytes),
            backup.cause.to_string(),
            backup.place.to_string(),
            backup.why.clone().unwrap_or_default(),
        ]);
    }
    table
}

pub(super) fn age(milliseconds: u64) -> String {
    span(std::time::Duration::from_millis(milliseconds))
}

async fn status(
    context: &mut Context,
    kind: &PluginName,
    service: &ServiceName,
) -> Result<BackupStatus, Failure> {
    context.client.get(&format!("{}/backup-settings", base(kind, service))).await
}

async fn info(context: &mut Context, kind: &PluginName, args: Info) -> Result<(), Failure> {
    match &args.backup {
        None => {
            let status = status(context, kind, &args.service).await?;
            match args.format.format {
                Format::Json => context.out.json(&status),
                Format::Text => status_report(&args.service, &status).print(&mut context.out, None),
            }
        }
        Some(id) => {
            let path = format!("{}/backups/{id}", base(kind, &args.service));
            let backup: BackupReport = context.client.get(&path).await?;
            match args.format.format {
                Format::Json => context.out.json(&backup),
                Format::Text => backup_report(&backup).print(&mut context.out, None),
            }
        }
    }
}

fn status_report(service: &ServiceName, status: &BackupStatus) -> Report {
    let mut report = Report::new(format!("{service} backup information"));
    let verified = match &status.last_verified {
        Some(backup) => format!("{} ago: {}", age(backup.age_ms), backup.id),
        None => "never".into(),
    };
    report.row("Backup last verified", verified);
    let last = match &status.last {
        Some(backup) => {
            let why = backup.why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("{} ago: {} {}{why}", age(backup.age_ms), backup.id, backup.state)
        }
        None => "none".into(),
    };
    report.row("Backup last", last);
    report.row("Backup usable", status.usable);
    report.row("Backup size", bytes(status.bytes));
    report.row("Backup place", &status.place);
    report.row("Backup schedule", status.schedule.as_deref().unwrap_or("none"));
    report.row("Backup next", status.next_at.map(time).unwrap_or_default());
    report.row("Backup keep", status.keep);
    let days = status.keep_days.map_or("no limit".into(), |days| days.to_string());
    report.row("Backup keep days", days);
    report.row("Backup s3 endpoint", status.s3_endpoint.as_deref().unwrap_or_default());
    report.row("Backup s3 region", status.s3_region.as_deref().unwrap_or_default());
    report.row("Backup s3 credentials", status.s3_credentials);
    report
}

fn backup_report(backup: &BackupReport) -> Report {
    let mut report = Report::new(format!("{} backup information", backup.id));
    report.row("Backup service", format!("{} {}", backup.kind, backup.service));
    report.row("Backup state", &backup.state);
    report.row("Backup note", backup.why.as_deref().unwrap_or_default());
    report.row("Backup created at", time(backup.created_at));
    report.row("Backup verified at", backup.verified_at.map(time).unwrap_or_default());
    report.row("Backup cause", backup.cause);
    report.row("Backup actor", &backup.actor);
    report.row("Backup place", &backup.place);
    report.row("Backup size", bytes(backup.bytes));
    report.row("Backup sha256", &backup.sha256);
    report.row("Backup facts", &backup.facts);
    report
}

async fn remove(context: &mut Context, kind: &PluginName, args: Remove) -> Result<(), Failure> {
    let force = if context.force { "?force=true" } else { "" };
    let path = format!("{}/backups/{}{force}", base(kind, &args.service), args.backup);
    let removed: BackupReport = context.client.send(Method::DELETE, &path, &()).await?;
    context.out.step(&format!("Removed backup {}", removed.id))
}

async fn schedule(context: &mut Context, kind: &PluginName, args: Schedule) -> Result<(), Failure> {
    let service = Some(&args.service);
    if let Some(text) = &args.place {
        change(context, kind, service, "place", &place(text)?.to_string()).await?;
    }
    context.out.step(&format!("Backing {} up at {} (UTC)", args.service, args.schedule))?;
    change(context, kind, service, "schedule", &args.schedule).await
}

async fn change(
    context: &mut Context,
    kind: &PluginName,
    service: Option<&ServiceName>,
    key: &str,
    value: &str,
) -> Result<(), Failure> {
    let path = match service {
        Some(service) => format!("{}/backup-settings", base(kind, service)),
        None => "/backup-settings".to_owned(),
    };
    let change = BackupChange { key: key.to_owned(), value: Secret::new(value) };
    let _: BackupStatus = context.client.send(Method::PATCH, &path, &change).await?;
    Ok(())
}

async fn set(context: &mut Context, kind: &PluginName, args: Set) -> Result<(), Failure> {
    let mut words = args.words.into_iter();
    let service: Option<ServiceName> = match args.global {
        true => None,
        false => Some(words.next().unwrap_or_default().parse()?),
    };
    let Some(key) = words.next() else {
        return Err(Failure::usage("the property is missing")
            .hint(format!("for example `staithe {kind}:backup-set shop keep 30`")));
    };
    let value = words.next();
    if words.next().is_some() {
        return Err(Failure::usage("with --global no service is named"));
    }
    let value = secret(value.unwrap_or_default())?;
    match value.is_empty() {
        true => context.out.step(&format!("Unsetting {key}"))?,
        // A secret is not repeated.
        false => context.out.step(&format!("Setting {key}"))?,
    }
    change(context, kind, service.as_ref(), &key, &value).await
}

/// The value itself, or a line of standard input in place of `-`: arguments can be seen by others.
fn secret(value: String) -> Result<String, Failure> {
    if value != "-" {
        return Ok(value);
    }
    let mut text = String::new();
    std::io::stdin().take(MAX_SECRET).read_to_string(&mut text).map_err(|error| {
        Failure::new(Exit::Failed, format!("standard input cannot be read: {error}"))
    })?;
    Ok(text.trim().to_owned())
}

async fn auth(context: &mut Context, kind: &PluginName, args: Auth) -> Result<(), Failure> {
    context.out.step(&format!("Setting the credentials of {}", args.service))?;
    let secret = secret(args.secret_access_key)?;
    let values = [
        // First, so that the new secret never goes to the old server.
        ("s3-endpoint", args.endpoint_url.unwrap_or_default()),
        ("s3-region", args.region.unwrap_or_default()),
        ("s3-access-key-id", args.access_key_id),
        ("s3-secret-access-key", secret),
    ];
    for (key, value) in values {
        change(context, kind, Some(&args.service), key, &value).await?;
    }
    Ok(())
}

async fn restore(context: &mut Context, kind: &PluginName, args: Restore) -> Result<(), Failure> {
    let path = format!("{}/restore", base(kind, &args.service));
    let request = RestoreRequest { id: args.backup, to: args.to };
    let restored: Restored = context.operation(Method::POST, &path, &request).await?;
    if let Some(safety) = &restored.safety {
        context.out.detail(&format!("what was there before is in backup {safety}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_local_or_a_bucket() {
        for (text, expected) in [
            ("local", "local"),
            ("my-bucket", "s3://my-bucket"),
            ("s3://my-bucket/a", "s3://my-bucket/a"),
        ] {
            assert_eq!(place(text).unwrap().to_string(), expected);
        }
        for bad in ["", "ftp://x", "a b c"] {
            assert!(place(bad).is_err(), "{bad:?}");
        }
    }
}
