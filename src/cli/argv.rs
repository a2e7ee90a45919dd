//! From the ways a command may be written to the one that clap reads.
//!
//! `apps:create shop`, `apps create shop` and `--app shop apps:create` become `apps create shop`;
//! `config shop` (Dokku's old form) becomes `config show shop`; `ps:report shop --running` becomes
//! `ps report shop --field running`.

use clap::Command;

use super::command::entries;
use super::exit::Failure;

/// The verb of a noun that stands alone.
const DEFAULT_VERBS: &[(&str, &str)] = &[
    ("access", "list"),
    ("apps", "list"),
    ("builds", "list"),
    ("checks", "report"),
    ("config", "show"),
    ("cron", "report"),
    ("domains", "report"),
    ("error-pages", "report"),
    ("events", "list"),
    ("host", "report"),
    ("logs", "show"),
    ("maintenance", "report"),
    ("metrics", "show"),
    ("nginx", "report"),
    ("plugin", "list"),
    ("ports", "report"),
    ("postgres", "list"),
    ("proxy", "report"),
    ("ps", "report"),
    ("releases", "list"),
    ("resource", "report"),
    ("routes", "list"),
    ("ssh-keys", "list"),
    ("stack", "list"),
    ("storage", "report"),
    ("tokens", "list"),
    ("users", "list"),
];

/// Rewrites `arguments` for the tree of commands.
///
/// # Errors
/// If there is no such command; with the one that was probably meant.
pub(super) fn normalize(arguments: Vec<String>, tree: &Command) -> Result<Vec<String>, Failure> {
    let mut rest = arguments.into_iter().peekable();
    let mut normal = Vec::new();
    let mut app = None;
    while let Some(option) = rest.next_if(|argument| argument.starts_with('-')) {
        match option.as_str() {
            "--help" | "-h" => return Ok(vec!["help".into()]),
            "--version" | "-v" | "-V" => return Ok(vec!["version".into()]),
            "--app" => app = Some(rest.next().ok_or_else(|| Failure::usage(NO_APP))?),
            "--run-dir" => normal.extend([Some(option), rest.next()].into_iter().flatten()),
            _ => match option.strip_prefix("--app=") {
                Some(name) => app = Some(name.to_owned()),
                None => normal.push(option),
            },
        }
    }
    let Some(name) = rest.next() else { return Ok(vec!["help".into()]) };
    let rest: Vec<String> = rest.collect();
    let Target { words, command, rest } = resolve(&name, rest, tree)?;
    normal.extend(words);
    normal.extend(operands(rest, app, command)?);
    Ok(normal)
}

/// The hidden command that asks the server whose a command is.
const FOREIGN: &str = "plugin-command";
const NO_APP: &str = "--app needs the name of an app";

/// A command found in the tree, and what follows it.
struct Target<'a> {
    words: Vec<String>,
    command: &'a Command,
    rest: Vec<String>,
}

fn resolve<'a>(
    name: &str,
    mut rest: Vec<String>,
    tree: &'a Command,
) -> Result<Target<'a>, Failure> {
    let (noun_name, verb) = match name.split_once(':') {
        Some((noun, verb)) => (noun, Some(verb.to_owned()).filter(|verb| !verb.is_empty())),
        None => (name, None),
    };
    let Some(noun) = tree.find_subcommand(noun_name) else {
        return foreign(noun_name, verb, rest, tree).ok_or_else(|| unknown(name, tree));
    };
    if !noun.has_subcommands() {
        let words = vec![noun.get_name().to_owned()];
        return match verb {
            Some(_) => Err(unknown(name, tree)),
            None => Ok(Target { words, command: noun, rest }),
        };
    }
    let is_verb = |word: &String| noun.find_subcommand(word).is_some() || word == "help";
    let is_help = |word: &String| word == "--help" || word == "-h";
    let verb = match verb {
        Some(verb) => verb,
        None if rest.first().is_some_and(is_verb) => rest.remove(0),
        None if rest.first().is_some_and(is_help) => "help".to_owned(),
        None => default_verb(noun.get_name()).unwrap_or("help").to_owned(),
    };
    if verb == "help" {
        let help = tree.find_subcommand("help").unwrap_or(tree);
        let rest = vec![noun.get_name().to_owned()];
        return Ok(Target { words: vec!["help".into()], command: help, rest });
    }
    let full = format!("{}:{verb}", noun.get_name());
    let command = noun.find_subcommand(&verb).ok_or_else(|| unknown(&full, tree))?;
    let words = vec![noun.get_name().to_owned(), command.get_name().to_owned()];
    Ok(Target { words, command, rest })
}

/// A command that may be a plugin's; the server knows.
fn foreign<'a>(
    noun: &str,
    verb: Option<String>,
    rest: Vec<String>,
    tree: &'a Command,
) -> Option<Target<'a>> {
    let command = tree.find_subcommand(FOREIGN)?;
    noun.parse::<crate::domain::PluginName>().ok()?;
    let words = vec![FOREIGN.to_owned(), noun.to_owned(), verb?];
    Some(Target { words, command, rest })
}

fn default_verb(noun: &str) -> Option<&'static str> {
    DEFAULT_VERBS.iter().find(|(name, _)| *name == noun).map(|(_, verb)| *verb)
}

/// Moves `--app` to where the app belongs, and turns the flags of a report into `--field`.
pub(super) fn operands(
    rest: Vec<String>,
    mut app: Option<String>,
    command: &Command,
) -> Result<Vec<String>, Failure> {
    // What follows the first operand of `run` and `enter` is another program's command line.
    let foreign = command.get_positionals().any(clap::Arg::is_trailing_var_arg_set);
    // `tokens:create --app` says for which apps, and has no app as an operand.
    let own = command.get_arguments().any(|argument| argument.get_long() == Some("app"));
    let mut operands = Vec::new();
    let mut first = None;
    let mut rest = rest.into_iter();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            first.get_or_insert(operands.len());
            operands.push(argument);
            break;
        }
        if argument == "--app" && !own {
            app = Some(rest.next().ok_or_else(|| Failure::usage(NO_APP))?);
        } else if let Some(name) = argument.strip_prefix("--app=").filter(|_| !own) {
            app = Some(name.to_owned());
        } else if !argument.starts_with('-') || argument == "-" {
            first.get_or_insert(operands.len());
            operands.push(argument);
            if foreign {
                break;
            }
        } else {
            let takes_value = takes_value(&argument, command);
            operands.extend(field(argument, command));
            if takes_value {
                operands.extend(rest.next());
            }
        }
    }
    operands.extend(rest);
    if let Some(app) = app {
        operands.insert(if foreign { first.unwrap_or(operands.len()) } else { 0 }, app);
    }
    Ok(operands)
}

/// The option that `argument` names, as `--num`, `--num=3` or `-n`.
fn find_option<'a>(argument: &str, command: &'a Command) -> Option<&'a clap::Arg> {
    let name = argument.split('=').next().unwrap_or(argument);
    command.get_opts().find(|option| {
        let long = name.strip_prefix("--").is_some_and(|name| option.get_long() == Some(name));
        let short = name.strip_prefix('-').and_then(|name| name.chars().next());
        long || (!name.starts_with("--") && short.is_some() && option.get_short() == short)
    })
}

/// Whether the next argument is the value of this one.
fn takes_value(argument: &str, command: &Command) -> bool {
    let separate = argument.starts_with("--") && !argument.contains('=') || argument.len() == 2;
    let takes = find_option(argument, command).is_some_and(|o| o.get_action().takes_values());
    separate && (takes || argument == "--run-dir")
}

/// Flags that every command takes.
const GLOBAL: [&str; 5] = ["--force", "--help", "--quiet", "--run-dir", "--trace"];

/// `--running` of a report is the label whose value is wanted.
fn field(argument: String, command: &Command) -> Vec<String> {
    let is_report = command.get_opts().any(|option| option.get_long() == Some("field"));
    let known = |name: &str| GLOBAL.contains(&name) || is_known(name, command);
    match argument.strip_prefix("--") {
        Some(label) if is_report && !known(argument.split('=').next().unwrap_or_default()) => {
            vec!["--field".to_owned(), label.to_owned()]
        }
        _ => vec![argument],
    }
}

fn is_known(name: &str, command: &Command) -> bool {
    command
        .get_arguments()
        .any(|argument| argument.get_long().is_some_and(|long| name == format!("--{long}")))
}

/// No such command, and the one that was probably meant.
pub(super) fn unknown(name: &str, tree: &Command) -> Failure {
    let failure = Failure::usage(format!("`{}` is not a staithe command", name.escape_default()));
    let names = tree.get_subcommands().flat_map(|noun| {
        let noun_itself = noun.has_subcommands().then(|| noun.get_name().to_owned());
        entries(noun).into_iter().map(|entry| entry.name).chain(noun_itself)
    });
    let closest = names
        .map(|candidate| (strsim::damerau_levenshtein(name, &candidate), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= (name.len() / 3).max(2));
    match closest {
        Some((_, candidate)) => {
            failure.hint(format!("did you mean `{candidate}`? `staithe help` lists all commands"))
        }
        None => failure.hint("`staithe help` lists all commands"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::command::tree;

    fn check(written: &str, expected: &str) {
        let arguments = written.split_whitespace().map(str::to_owned).collect();
        let shown = match normalize(arguments, &tree()) {
            Ok(normal) => normal.join(" "),
            Err(Failure::Told { message, hint, .. }) => {
                format!("{message}; {}", hint.unwrap_or_default())
            }
            Err(silent) => format!("{silent:?}"),
        };
        assert_eq!(shown, expected, "{written}");
    }

    #[test]
    fn colons_spaces_and_old_short_forms_are_one_command() {
        check("apps:create shop", "apps create shop");
        check("apps create shop", "apps create shop");
        check("apps", "apps list");
        check("apps:", "apps list");
        check("apps:report shop", "apps info shop");
        check("config shop", "config show shop");
        check("config:show shop", "config show shop");
        check("releases shop -n 3", "releases list shop -n 3");
        check("ssh-keys:add alice", "ssh-keys add alice");
        check("logs shop -t", "logs show shop -t");
    }

    #[test]
    fn the_app_may_be_named_anywhere_before_a_foreign_command_line() {
        check("--app shop ps:scale web=2", "ps scale shop web=2");
        check("ps:scale --app shop web=2", "ps scale shop web=2");
        check("ps:scale web=2 --app=shop", "ps scale shop web=2");
        check("--app shop logs -n 10", "logs show shop -n 10");
        check("--app shop run -e A=B node --app x", "run -e A=B shop node --app x");
        check("run --app shop node --app x", "run shop node --app x");
        check("run shop node --app x", "run shop node --app x");
        check("tokens:create ci --app shop", "tokens create ci --app shop");
        check("tokens:create --app=shop ci", "tokens create --app=shop ci");
        check("--app", "--app needs the name of an app; ");
    }

    #[test]
    fn global_flags_may_come_first() {
        check("--quiet apps:list", "--quiet apps list");
        check(
            "--run-dir /tmp/x --force apps:destroy shop",
            "--run-dir /tmp/x --force apps destroy shop",
        );
        check("--version", "version");
        check("-h", "help");
        check("", "help");
    }

    #[test]
    fn flags_of_reports_are_fields_unless_they_are_known() {
        check("ps:report shop --running", "ps report shop --field running");
        check("ps:report --running shop", "ps report --field running shop");
        check("ps:report shop --format json --quiet", "ps report shop --format json --quiet");
        check("apps:create --running shop", "apps create --running shop");
    }

    #[test]
    fn help_can_be_asked_for_everywhere() {
        check("ps:help", "help ps");
        check("ps --help", "help ps");
        check("ps help", "help ps");
        check("git", "help git");
        check("ps:scale --help", "ps scale --help");
        check("help ps:scale", "help ps:scale");
    }

    #[test]
    fn unknown_commands_are_guessed_at() {
        let all = "`staithe help` lists all commands";
        // It may be a plugin's; the server is asked first.
        check("ap:create x", "plugin-command ap create x");
        check("slack-webhook:set --app shop url", "plugin-command slack-webhook set shop url");
        check(
            "apps:crate x",
            &format!("`apps:crate` is not a staithe command; did you mean `apps:create`? {all}"),
        );
        check("logs:xyzzyxyzzy", &format!("`logs:xyzzyxyzzy` is not a staithe command; {all}"));
        check("frobnicate", &format!("`frobnicate` is not a staithe command; {all}"));
    }
}
