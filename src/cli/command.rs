//! The tree of commands.

use clap::{Args, CommandFactory, Parser, Subcommand};

use super::context::Context;
use super::exit::Failure;
use super::{
    access, apps, builds, certs, checks, config, cron, dashboard, domains, events, git, help, host, letsencrypt, logs, metrics, pages, plugins, ports, proxy, ps, releases, resource, routes, run, services, ssh_keys, stack, storage, system, tokens,
};

/// A git-push platform in one program.
#[derive(Debug, Parser)]
#[command(name = "staithe", disable_help_subcommand = true, color = clap::ColorChoice::Never)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) noun: Noun,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(super) struct Global {
    /// Print results only
    #[arg(long, global = true)]
    pub(super) quiet: bool,
    /// Do not ask for confirmation
    #[arg(long, global = true)]
    pub(super) force: bool,
    /// The server's run directory [default: /run/staithe, or STAITHE_RUN_DIR]
    #[arg(long, global = true, value_name = "dir")]
    pub(super) run_dir: Option<String>,
    /// Accepted for Dokku's sake
    #[arg(long, global = true, hide = true)]
    trace: bool,
}

/// The nouns, in the order of `help`.
#[derive(Debug, Subcommand)]
pub(super) enum Noun {
    /// Apps
    #[command(subcommand)]
    Apps(apps::Verb),
    /// Config vars: the environment an app is given
    #[command(subcommand)]
    Config(config::Verb),
    /// Processes
    #[command(subcommand)]
    Ps(ps::Verb),
    /// Releases
    #[command(subcommand)]
    Releases(releases::Verb),
    /// Goes back to an earlier release, by making a new one like it
    Rollback(releases::Rollback),
    /// Logs: what apps' processes print, what is asked of them, what happens to them
    #[command(subcommand)]
    Logs(logs::Verb),
    /// Runs a command in a new container of an app's current release
    Run(run::Run),
    /// Opens a shell, or runs a command, in a running instance
    Enter(run::Enter),
    /// Domains
    #[command(subcommand)]
    Domains(domains::Verb),
    /// Proxy: how requests are treated on their way to an app
    #[command(subcommand)]
    Proxy(proxy::Verb),
    /// As `proxy`, for Dokku's sake
    #[command(subcommand, hide = true)]
    Nginx(proxy::NginxVerb),
    /// Ports: which of the machine's lead to which of an app's
    #[command(subcommand)]
    Ports(ports::Verb),
    /// Routes: paths of domains that lead to other apps or process types
    #[command(subcommand)]
    Routes(routes::Verb),
    /// Maintenance mode
    #[command(subcommand)]
    Maintenance(pages::Maintenance),
    /// Pages of an app's own in place of Staithe's
    #[command(subcommand)]
    ErrorPages(pages::ErrorPages),
    /// Certificates
    #[command(subcommand)]
    Certs(certs::Verb),
    /// Certificates that are issued and renewed by themselves
    #[command(subcommand)]
    Letsencrypt(letsencrypt::Verb),
    /// Shows an app's first URL
    Url(apps::Urls),
    /// Shows all URLs of an app
    Urls(apps::Urls),
    /// Quotas
    #[command(subcommand)]
    Resource(resource::Verb),
    /// Storage: volumes, which outlive containers and releases
    #[command(subcommand)]
    Storage(storage::Verb),
    /// Databases: PostgreSQL here, and the same verbs for each type of service that a plugin brings:
    /// `redis:create`, `mysql:link` and so on
    #[command(subcommand)]
    Postgres(services::Verb),
    /// Cron: what apps have run on a schedule
    #[command(subcommand)]
    Cron(cron::Verb),
    /// Deploy checks
    #[command(subcommand)]
    Checks(checks::Verb),
    /// Builds
    #[command(subcommand)]
    Builds(builds::Verb),
    /// Git
    #[command(subcommand)]
    Git(git::Verb),
    /// SSH keys
    #[command(subcommand)]
    SshKeys(ssh_keys::Verb),
    /// Users
    #[command(subcommand)]
    Users(access::Users),
    /// Access: who may do what, on the platform and on single apps
    #[command(subcommand)]
    Access(access::Access),
    /// Tokens: what programs show in place of a person
    #[command(subcommand)]
    Tokens(tokens::Verb),
    /// Stacks: the base images of builds and instances
    #[command(subcommand)]
    Stack(stack::Verb),
    /// Plugins: what they add, and what is set about them
    #[command(subcommand)]
    Plugin(plugins::Verb),
    /// A command of a plugin's
    #[command(hide = true)]
    PluginCommand(plugins::Foreign),
    /// The dashboard
    #[command(subcommand)]
    Dashboard(dashboard::Verb),
    /// Events: what happened and who did it
    #[command(subcommand)]
    Events(events::Verb),
    /// Prints the description of the HTTP API, an OpenAPI 3.1 document
    Openapi(system::Openapi),
    /// Metrics: what apps use, over time
    #[command(subcommand)]
    Metrics(metrics::Verb),
    /// Host: how the machine stands
    #[command(subcommand)]
    Host(host::Verb),
    /// Removes images that no kept release needs
    Gc(system::Gc),
    /// Shows the version of this program and of the server
    Version(system::Version),
    /// Shows help: for all commands, a group (`help ps`) or one (`help ps:scale`)
    Help(help::Help),
}

impl Noun {
    /// Runs the command.
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Apps(verb) => verb.run(context).await,
            Self::Config(verb) => verb.run(context).await,
            Self::Ps(verb) => verb.run(context).await,
            Self::Releases(verb) => verb.run(context).await,
            Self::Rollback(rollback) => rollback.run(context).await,
            Self::Logs(verb) => verb.run(context).await,
            Self::Run(run) => run.run(context).await,
            Self::Enter(enter) => enter.run(context).await,
            Self::Domains(verb) => verb.run(context).await,
            Self::Proxy(verb) => verb.run(context).await,
            Self::Nginx(verb) => verb.run(context).await,
            Self::Ports(verb) => verb.run(context).await,
            Self::Routes(verb) => verb.run(context).await,
            Self::Maintenance(verb) => verb.run(context).await,
            Self::ErrorPages(verb) => verb.run(context).await,
            Self::Certs(verb) => verb.run(context).await,
            Self::Letsencrypt(verb) => verb.run(context).await,
            Self::Url(urls) => urls.first(context).await,
            Self::Urls(urls) => urls.all(context).await,
            Self::Resource(verb) => verb.run(context).await,
            Self::Storage(verb) => verb.run(context).await,
            Self::Postgres(verb) => verb.run(context, &services::DOCUMENTED.parse()?).await,
            Self::Cron(verb) => verb.run(context).await,
            Self::Checks(verb) => verb.run(context).await,
            Self::Builds(verb) => verb.run(context).await,
            Self::Git(verb) => verb.run(context).await,
            Self::SshKeys(verb) => verb.run(context).await,
            Self::Users(verb) => verb.run(context).await,
            Self::Access(verb) => verb.run(context).await,
            Self::Tokens(verb) => verb.run(context).await,
            Self::Stack(verb) => verb.run(context).await,
            Self::Plugin(verb) => verb.run(context).await,
            Self::PluginCommand(foreign) => foreign.run(context).await,
            Self::Dashboard(verb) => verb.run(context).await,
            Self::Events(verb) => verb.run(context).await,
            Self::Openapi(openapi) => openapi.run(context).await,
            Self::Metrics(verb) => verb.run(context).await,
            Self::Host(verb) => verb.run(context).await,
            Self::Gc(gc) => gc.run(context).await,
            Self::Version(version) => version.run(context).await,
            Self::Help(help) => help.run(context),
        }
    }
}

/// The tree as clap has it, with usages in Dokku's form.
pub(super) fn tree() -> clap::Command {
    Cli::command().mut_subcommands(|noun| {
        let name = noun.get_name().to_owned();
        let noun = noun.disable_help_subcommand(true);
        match noun.has_subcommands() {
            true => noun.mut_subcommands(|verb| {
                let full = format!("{name}:{}", verb.get_name());
                with_usage(verb, &full)
            }),
            false => with_usage(noun, &name),
        }
    })
}

fn with_usage(command: clap::Command, name: &str) -> clap::Command {
    let usage = format!("staithe {}", usage(&command, name));
    command.override_usage(usage)
}

/// `apps:clone [--skip-deploy] <old-app> <new-app>`.
pub(super) fn usage(command: &clap::Command, name: &str) -> String {
    let mut usage = name.to_owned();
    for option in command.get_opts().filter(|option| is_own(option)) {
        let short = option.get_short().map(|short| format!("-{short}"));
        let name = option.get_long().map(|long| format!("--{long}")).or(short);
        usage.push_str(&format!(" [{}{}]", name.unwrap_or_default(), value(option)));
    }
    for positional in command.get_positionals() {
        let name = value_name(positional);
        let many = positional.get_num_args().is_some_and(|range| range.max_values() > 1);
        let many = if many { "..." } else { "" };
        match positional.is_required_set() {
            true => usage.push_str(&format!(" <{name}>{many}")),
            false => usage.push_str(&format!(" [<{name}>{many}]")),
        }
    }
    usage
}

/// Whether an option belongs to the command itself and is to be shown.
pub(super) fn is_own(option: &clap::Arg) -> bool {
    !option.is_hide_set() && !option.is_global_set() && option.get_long() != Some("help")
}

/// How many words an option may choose from to have them all in its usage.
const MAX_WORDS: usize = 3;

/// What follows an option: nothing, ` <num>` or, of a few words, ` stdout|json`.
pub(super) fn value(option: &clap::Arg) -> String {
    let takes_value = option.get_action().takes_values();
    let words = option.get_possible_values();
    let words: Vec<_> = words.iter().map(clap::builder::PossibleValue::get_name).collect();
    match (takes_value, words.len()) {
        (false, _) => String::new(),
        (true, 1..=MAX_WORDS) => format!(" {}", words.join("|")),
        (true, _) => format!(" <{}>", value_name(option)),
    }
}

/// What stands for an argument's value: `app`.
fn value_name(argument: &clap::Arg) -> String {
    match argument.get_value_names() {
        Some([name, ..]) if name.contains('=') => name.to_string(),
        Some([name, ..]) => name.to_lowercase().replace('_', "-"),
        _ => argument.get_id().as_str().replace('_', "-"),
    }
}

/// A command as users write it, with its definition.
pub(super) struct Entry<'a> {
    /// `apps:create`, `logs`.
    pub(super) name: String,
    /// Its definition.
    pub(super) command: &'a clap::Command,
}

/// The visible commands of one noun: its verbs, or itself.
pub(super) fn entries(noun: &clap::Command) -> Vec<Entry<'_>> {
    let name = noun.get_name();
    match noun.has_subcommands() {
        true => {
            let verbs = noun.get_subcommands().filter(|verb| !verb.is_hide_set());
            verbs
                .map(|verb| Entry { name: format!("{name}:{}", verb.get_name()), command: verb })
                .collect()
        }
        false => vec![Entry { name: name.to_owned(), command: noun }],
    }
}
