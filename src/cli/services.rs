//! Databases: `postgres:*`, and the same verbs for every type of service that a plugin describes.

use clap::{Args, Subcommand};
use hyper::Method;

use super::backups;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::output::{Format, FormatArg, Report, bytes, time};
use super::run::{attach, terminal_size};
use crate::domain::{
    AppName, Bytes, EnvKey, ExposedPort, MilliCpus, PluginName, Secret, ServiceName,
};
use crate::wire::{
    CloneService, ExposeService, LinkReport, LinkService, LogLine, NewService, RunRequest,
    ServiceReport, SetService, UnlinkService,
};

/// How many lines are shown if not told; Dokku's number.
const DEFAULT_LINES: usize = 100;

/// `<type>:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Makes the image that services of the type run on, which the first `create` does otherwise
    Install,
    /// Creates a service
    Create(Create),
    /// Removes a service with its data, for good; not while an app is linked to it
    Destroy(Service),
    /// Ends with 0 if a service exists, with 20 if not
    Exists(Service),
    /// Lists the services
    List(FormatArg),
    /// Shows how a service stands
    Info(Info),
    /// Lets an app reach a service, and tells it how in a config var, with a new release
    Link(Link),
    /// Takes a service from an app, and the config var with it, with a new release
    Unlink(Unlink),
    /// Ends with 0 if a service is linked to an app, with 1 if not
    Linked(ServiceAndApp),
    /// Lists the apps that are linked to a service
    Links(Listed),
    /// Lists the services of this type that an app is linked to
    AppLinks(AppLinks),
    /// Makes a linked service the app's main one: that of DATABASE_URL
    Promote(ServiceAndApp),
    /// Lets ports of the machine lead to a service
    Expose(Expose),
    /// Closes those ports
    Unexpose(Service),
    /// Starts a stopped service, or lets a paused one go on
    Start(Service),
    /// Stops a service, until it is started
    Stop(Service),
    /// Stops a service and starts it again, with its settings as they are now
    Restart(Service),
    /// Restarts a service with the newest packages of its version, such as security updates
    Upgrade(Service),
    /// Freezes a service where it is, until it is started
    Pause(Service),
    /// Shows what a service prints
    Logs(Logs),
    /// Opens a shell, or runs a command, in a service's container
    Enter(Command),
    /// Opens a service's own client
    Connect(Command),
    /// Makes a new service with another's settings and contents
    Clone(CloneArgs),
    /// Writes a dump of a service's contents to standard output
    Export(Service),
    /// Replaces a service's contents by a dump from standard input
    Import(Service),
    /// Sets memory, cpu, size or one of the type's settings; no value goes back to the default
    Set(Set),
    #[command(flatten)]
    Backups(backups::Verb),
}

/// The service that a command is about.
#[derive(Debug, Args)]
pub(super) struct Service {
    /// The service
    service: ServiceName,
}

/// `create`.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// The service
    service: ServiceName,
    /// The most memory it may use, such as 512m
    #[arg(long, short, value_name = "size")]
    memory: Option<Bytes>,
    /// The most processor time it may use, such as 0.5
    #[arg(long, value_name = "cpus")]
    cpu: Option<MilliCpus>,
    /// How large its data may become, such as 10g
    #[arg(long, value_name = "size")]
    size: Option<Bytes>,
    /// Its password; a random one if none
    #[arg(long, short)]
    password: Option<String>,
}

/// `info`.
#[derive(Debug, Args)]
pub(super) struct Info {
    /// The service
    service: ServiceName,
    /// Only this label's value; what `--<label>` becomes
    #[arg(long, hide = true)]
    field: Option<String>,
    #[command(flatten)]
    format: FormatArg,
}

/// `link`.
#[derive(Debug, Args)]
pub(super) struct Link {
    /// The service
    service: ServiceName,
    /// The app
    app: AppName,
    /// The name of the config var without `_URL`
    #[arg(long, short, value_name = "name")]
    alias: Option<String>,
    /// What follows the `?` of the address, such as `pool=5`
    #[arg(long, short, value_name = "query")]
    querystring: Option<String>,
    /// Only sets the config var; the app has it with its next release
    #[arg(long, short)]
    no_restart: bool,
}

/// `unlink`.
#[derive(Debug, Args)]
pub(super) struct Unlink {
    /// The service
    service: ServiceName,
    /// The app
    app: AppName,
    /// Only unsets the config var; the app is without it with its next release
    #[arg(long, short)]
    no_restart: bool,
}

/// `linked`, `promote`.
#[derive(Debug, Args)]
pub(super) struct ServiceAndApp {
    /// The service
    service: ServiceName,
    /// The app
    app: AppName,
}

/// `links`.
#[derive(Debug, Args)]
pub(super) struct Listed {
    /// The service
    service: ServiceName,
    #[command(flatten)]
    format: FormatArg,
}

/// `app-links`.
#[derive(Debug, Args)]
pub(super) struct AppLinks {
    /// The app
    app: AppName,
    #[command(flatten)]
    format: FormatArg,
}

/// `expose`.
#[derive(Debug, Args)]
pub(super) struct Expose {
    /// The service
    service: ServiceName,
    /// Ports of the machine, in the order of the service's; free ones if none
    ports: Vec<u16>,
}

/// `logs`.
#[derive(Debug, Args)]
pub(super) struct Logs {
    /// The service
    service: ServiceName,
    /// Goes on with new lines as they come
    #[arg(long, short)]
    tail: bool,
    /// How many of the last lines
    #[arg(long, short, default_value_t = DEFAULT_LINES)]
    num: usize,
    #[command(flatten)]
    format: FormatArg,
}

/// `enter`, `connect`.
#[derive(Debug, Args)]
pub(super) struct Command {
    /// Uses pipes even if there is a terminal
    #[arg(long)]
    no_tty: bool,
    /// The service
    service: ServiceName,
    /// The command, or the client's arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// `clone`.
#[derive(Debug, Args)]
pub(super) struct CloneArgs {
    /// The service to copy
    service: ServiceName,
    /// The new service
    new_service: ServiceName,
}

/// `set`.
#[derive(Debug, Args)]
pub(super) struct Set {
    /// The service
    service: ServiceName,
    /// The setting
    key: String,
    /// Its value
    value: Option<String>,
}

impl Verb {
    /// Carries the verb out for services of `kind`.
    pub(super) async fn run(self, context: &mut Context, kind: &PluginName) -> Result<(), Failure> {
        match self {
            Self::Install => {
                let path = format!("/service-types/{kind}/install");
                context.operation(Method::POST, &path, &()).await
            }
            Self::Create(args) => create(context, kind, args).await,
            Self::Destroy(args) => destroy(context, kind, &args.service).await,
            Self::Exists(args) => report_of(context, kind, &args.service).await.map(drop),
            Self::List(format) => list(context, kind, format).await,
            Self::Info(args) => info(context, kind, args).await,
            Self::Link(args) => link(context, kind, args).await,
            Self::Unlink(args) => unlink(context, kind, args).await,
            Self::Linked(args) => linked(context, kind, args).await,
            Self::Links(args) => links(context, kind, args).await,
            Self::AppLinks(args) => app_links(context, kind, args).await,
            Self::Promote(args) => {
                let path = format!("{}/links/{}/promote", base(kind, &args.service), args.app);
                let _: EnvKey = context.operation(Method::POST, &path, &()).await?;
                Ok(())
            }
            Self::Expose(args) => expose(context, kind, args).await,
            Self::Unexpose(args) => {
                let path = format!("{}/expose", base(kind, &args.service));
                context.client.send(Method::DELETE, &path, &()).await
            }
            Self::Start(args) => verb(context, kind, &args.service, "start").await,
            Self::Stop(args) => verb(context, kind, &args.service, "stop").await,
            Self::Restart(args) => verb(context, kind, &args.service, "restart").await,
            Self::Upgrade(args) => verb(context, kind, &args.service, "upgrade").await,
            Self::Pause(args) => verb(context, kind, &args.service, "pause").await,
            Self::Logs(args) => logs(context, kind, args).await,
            Self::Enter(args) => session(context, kind, args, "enter").await,
            Self::Connect(args) => session(context, kind, args, "connect").await,
            Self::Clone(args) => clone(context, kind, args).await,
            Self::Export(args) => {
                let path = format!("{}/export", base(kind, &args.service));
                attach(context, &path, &RunRequest::default()).await
            }
            Self::Import(args) => import(context, kind, &args.service).await,
            Self::Set(args) => {
                let path = format!("{}/settings", base(kind, &args.service));
                let change = SetService { key: args.key, value: args.value };
                context.client.send(Method::PATCH, &path, &change).await
            }
            Self::Backups(verb) => verb.run(context, kind).await,
        }
    }
}

fn base(kind: &PluginName, service: &ServiceName) -> String {
    format!("/services/{kind}/{service}")
}

async fn report_of(
    context: &Context,
    kind: &PluginName,
    service: &ServiceName,
) -> Result<ServiceReport, Failure> {
    context.client.get(&base(kind, service)).await
}

async fn create(context: &mut Context, kind: &PluginName, args: Create) -> Result<(), Failure> {
    let Create { service, memory, cpu, size, password } = args;
    let password = password.map(Secret::new);
    let new = NewService { name: service, memory, cpu, size, password };
    let path = format!("/services/{kind}");
    let made: ServiceReport = context.operation(Method::POST, &path, &new).await?;
    match context.out.is_quiet() {
        true => Ok(()),
        false => context.out.text(&report(&made).render()),
    }
}

async fn destroy(
    context: &mut Context,
    kind: &PluginName,
    service: &ServiceName,
) -> Result<(), Failure> {
    report_of(context, kind, service).await?;
    if !context.force {
        super::apps::confirm("service", service.as_str(), "its data")?;
    }
    context.out.step(&format!("Destroying {kind} service {service}"))?;
    context.client.send(Method::DELETE, &base(kind, service), &()).await
}

async fn list(context: &mut Context, kind: &PluginName, format: FormatArg) -> Result<(), Failure> {
    let services: Vec<ServiceReport> = context.client.get(&format!("/services/{kind}")).await?;
    if format.format == Format::Json {
        return context.out.json(&services);
    }
    context.out.header(&format!("{kind} services"))?;
    services.iter().try_for_each(|service| context.out.line(service.name.as_str()))
}

async fn info(context: &mut Context, kind: &PluginName, args: Info) -> Result<(), Failure> {
    let service = report_of(context, kind, &args.service).await?;
    match args.format.format {
        Format::Json => context.out.json(&service),
        Format::Text => report(&service).print(&mut context.out, args.field.as_deref()),
    }
}

/// Under Dokku's labels, where there is the same.
fn report(service: &ServiceReport) -> Report {
    let mut report = Report::new(format!("{} {} service information", service.name, service.kind));
    let exposed: Vec<_> =
        service.exposed.iter().map(|port| format!("{}->{}", port.service, port.host)).collect();
    let links: Vec<_> = service.links.iter().map(|link| link.app.to_string()).collect();
    let settings: Vec<_> =
        service.settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
    report.row("Config options", settings.join(" "));
    report.row("Created at", time(service.created_at));
    report.row("Data dir", &service.data_dir);
    if let (Some(limit), Some(used)) = (service.disk_limit, service.disk_bytes) {
        let full = match service.disk_full {
            true => format!(
                ": full; run `staithe {}:set {} size <more>`, or delete data",
                service.kind, service.name
            ),
            false => String::new(),
        };
        report.row("Disk", format!("{} of {limit}{full}", bytes(used)));
    }
    report.row("Dsn", &service.dsn);
    report.row("Exposed ports", if exposed.is_empty() { "-".into() } else { exposed.join(" ") });
    report.row("Host", &service.host);
    report.row("Id", service.id);
    report.row("Internal ip", service.internal_ip);
    report.row("Last exit", service.last_exit.as_deref().unwrap_or_default());
    let backup = service.last_verified_backup.as_ref();
    let backup =
        backup.map_or("never".into(), |backup| format!("{} ago", backups::age(backup.age_ms)));
    report.row("Last verified backup", backup);
    report.row("Links", if links.is_empty() { "-".into() } else { links.join(" ") });
    report.row("Memory", service.memory_bytes.map(bytes).unwrap_or_default());
    report.row("Memory limit", service.memory_limit);
    report.row("Restarts", service.restarts);
    report.row("Status", service.status.as_str());
    report.row("Version", &service.version);
    report
}

async fn link(context: &mut Context, kind: &PluginName, args: Link) -> Result<(), Failure> {
    let Link { service, app, alias, querystring, no_restart } = args;
    let path = format!("{}/links", base(kind, &service));
    let link = LinkService { app, alias, query: querystring, no_restart };
    let variable: EnvKey = context.operation(Method::POST, &path, &link).await?;
    context.out.detail(&format!("{} has it as {variable}", link.app))
}

async fn unlink(context: &mut Context, kind: &PluginName, args: Unlink) -> Result<(), Failure> {
    let path = format!("{}/links/{}", base(kind, &args.service), args.app);
    let unlink = UnlinkService { no_restart: args.no_restart };
    let _: Vec<EnvKey> = context.operation(Method::DELETE, &path, &unlink).await?;
    Ok(())
}

async fn linked(
    context: &mut Context,
    kind: &PluginName,
    args: ServiceAndApp,
) -> Result<(), Failure> {
    let service = report_of(context, kind, &args.service).await?;
    let ServiceAndApp { service: name, app } = args;
    match service.links.iter().any(|link| link.app == app) {
        true => context.out.line(&format!("Service {name} is linked to app `{app}`")),
        false => {
            Err(Failure::new(Exit::Failed, format!("service {name} is not linked to app `{app}`")))
        }
    }
}

async fn links(context: &mut Context, kind: &PluginName, args: Listed) -> Result<(), Failure> {
    let service = report_of(context, kind, &args.service).await?;
    match args.format.format {
        Format::Json => context.out.json(&service.links),
        Format::Text => {
            service.links.iter().try_for_each(|link| context.out.line(link.app.as_str()))
        }
    }
}

async fn app_links(
    context: &mut Context,
    kind: &PluginName,
    args: AppLinks,
) -> Result<(), Failure> {
    let path = format!("/apps/{}/services", args.app);
    let mut links: Vec<LinkReport> = context.client.get(&path).await?;
    links.retain(|link| link.kind == *kind);
    match args.format.format {
        Format::Json => context.out.json(&links),
        Format::Text => links.iter().try_for_each(|link| context.out.line(link.service.as_str())),
    }
}

async fn expose(context: &mut Context, kind: &PluginName, args: Expose) -> Result<(), Failure> {
    let path = format!("{}/expose", base(kind, &args.service));
    let wanted = ExposeService { ports: args.ports };
    let exposed: Vec<ExposedPort> = context.client.send(Method::POST, &path, &wanted).await?;
    exposed
        .iter()
        .try_for_each(|port| context.out.line(&format!("{}->{}", port.service, port.host)))
}

async fn verb(
    context: &mut Context,
    kind: &PluginName,
    service: &ServiceName,
    verb: &str,
) -> Result<(), Failure> {
    context.operation(Method::POST, &format!("{}/{verb}", base(kind, service)), &()).await
}

async fn logs(context: &mut Context, kind: &PluginName, args: Logs) -> Result<(), Failure> {
    let query = format!("num={}&tail={}", args.num, args.tail);
    let path = format!("{}/logs?{query}", base(kind, &args.service));
    let raw = context.out.is_quiet();
    let (out, format) = (&mut context.out, args.format.format);
    let print = |line: LogLine| match format {
        Format::Json => out.json_line(&line),
        Format::Text if raw => out.line(&line.text),
        Format::Text => out.line(&format!("{} {}: {}", line.at, line.process, line.text)),
    };
    context.client.values(&path, print).await
}

async fn session(
    context: &Context,
    kind: &PluginName,
    args: Command,
    verb: &str,
) -> Result<(), Failure> {
    let terminal = terminal_size(args.no_tty);
    let term = terminal.and_then(|_| context.settings.term.clone());
    let request = RunRequest { args: args.command, terminal, term, ..RunRequest::default() };
    attach(context, &format!("{}/{verb}", base(kind, &args.service)), &request).await
}

async fn clone(context: &mut Context, kind: &PluginName, args: CloneArgs) -> Result<(), Failure> {
    let path = format!("{}/clone", base(kind, &args.service));
    let clone = CloneService { to: args.new_service };
    let _: ServiceReport = context.operation(Method::POST, &path, &clone).await?;
    Ok(())
}

async fn import(
    context: &mut Context,
    kind: &PluginName,
    service: &ServiceName,
) -> Result<(), Failure> {
    use std::io::IsTerminal;
    if std::io::stdin().is_terminal() {
        return Err(Failure::usage("the dump is missing")
            .hint(format!("give it on standard input: `staithe {kind}:import {service} < dump`")));
    }
    let path = format!("{}/import", base(kind, service));
    attach(context, &path, &RunRequest::default()).await
}

/// The verbs as commands of a type other than the one that the tree documents.
#[derive(Debug, clap::Parser)]
#[command(name = "staithe", disable_help_subcommand = true, color = clap::ColorChoice::Never)]
struct OtherType {
    #[command(flatten)]
    global: super::command::Global,
    #[command(subcommand)]
    verb: Verb,
}

/// The type that stands for all of them in the tree of commands.
pub(super) const DOCUMENTED: &str = "postgres";

/// Runs `<kind>:<verb> <args>` for a type that only the server knows.
pub(super) async fn run_other(
    context: &mut Context,
    kind: &PluginName,
    verb: String,
    args: Vec<String>,
) -> Result<(), Failure> {
    use clap::{CommandFactory, FromArgMatches};
    let tree = OtherType::command().mut_subcommands(|command| {
        let name = format!("{kind}:{}", command.get_name());
        let usage = format!("staithe {}", super::command::usage(&command, &name));
        command.override_usage(usage)
    });
    let Some(command) = tree.find_subcommand(&verb) else {
        return Err(Failure::usage(format!("`{kind}:{verb}` is not a staithe command"))
            .hint(format!("`staithe help {DOCUMENTED}` lists the commands of services")));
    };
    let args = super::argv::operands(args, None, command)?;
    let words = ["staithe".to_owned(), verb].into_iter().chain(args);
    let parsed = tree.try_get_matches_from(words);
    match parsed.and_then(|matches| OtherType::from_arg_matches(&matches)) {
        Ok(other) => {
            context.adopt(&other.global)?;
            other.verb.run(context, kind).await
        }
        Err(error) if error.kind() == clap::error::ErrorKind::DisplayHelp => {
            context.out.text(&error.render().to_string())
        }
        Err(error) => Err(super::usage_failure(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_of_other_types_are_parsed_as_those_of_the_documented_one() {
        use clap::{CommandFactory, Parser};
        OtherType::command().debug_assert();
        let parsed = OtherType::try_parse_from(["staithe", "link", "db", "shop", "--alias", "X"]);
        assert!(matches!(parsed.unwrap().verb, Verb::Link(Link { no_restart: false, .. })));
    }
}
