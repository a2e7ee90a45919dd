//! `help`: written from the tree of commands, as are the pages of `docs/COMMANDS.md`.

use std::fmt::Write;

use clap::{Args, Command};

use super::command::{self, Entry, entries, is_own, usage, value};
use super::context::Context;
use super::exit::Failure;

/// `help [<command>]`.
#[derive(Debug, Args)]
pub(super) struct Help {
    /// A group or a command
    topic: Vec<String>,
    /// Every command (always the case; Dokku's flag)
    #[arg(long, hide = true)]
    all: bool,
    /// All of it as a Markdown document
    #[arg(long, hide = true)]
    markdown: bool,
}

impl Help {
    pub(super) fn run(self, context: &mut Context) -> Result<(), Failure> {
        let tree = command::tree();
        let topic = self.topic.join(":");
        let text = match (self.markdown, topic.as_str()) {
            (true, _) => markdown(&tree),
            (_, "") => overview(&tree),
            (_, topic) => about(&tree, topic)?,
        };
        context.out.text(&text)
    }
}

/// Every command, by noun.
fn overview(tree: &Command) -> String {
    let mut text = String::from(
        "Usage: staithe <command> [<options>] [<arguments>]\n\
         \n\
         `apps:create shop` can be written `apps create shop`, and `--app shop apps:create`.\n\
         `staithe help <command>` tells more about one.\n",
    );
    let groups: Vec<_> = tree
        .get_subcommands()
        .filter(|noun| noun.has_subcommands() && !noun.is_hide_set())
        .collect();
    for noun in groups {
        let _ = write!(text, "\n{}\n{}", about_text(noun), listing(&entries(noun)));
    }
    let single: Vec<_> = tree
        .get_subcommands()
        .filter(|noun| !noun.has_subcommands() && !noun.is_hide_set())
        .flat_map(entries)
        .collect();
    let _ = write!(text, "\nOther commands\n{}", listing(&single));
    text
}

/// One line for each command: usage, and what it does.
fn listing(entries: &[Entry<'_>]) -> String {
    let usages: Vec<_> = entries.iter().map(|entry| usage(entry.command, &entry.name)).collect();
    // Long usages get a line of their own.
    let fitting = usages.iter().map(String::len).filter(|length| *length <= 44);
    let width = fitting.max().unwrap_or(0);
    let mut text = String::new();
    for (entry, usage) in entries.iter().zip(&usages) {
        let about = about_text(entry.command);
        let _ = match usage.len() <= width {
            true => writeln!(text, "  {usage:width$}  {about}"),
            false => writeln!(text, "  {usage}\n  {:width$}  {about}", ""),
        };
    }
    text
}

/// One group or one command.
fn about(tree: &Command, topic: &str) -> Result<String, Failure> {
    let (noun_name, verb) = topic.split_once(':').unwrap_or((topic, ""));
    let unknown = || {
        Failure::usage(format!("there is no help on `{}`", topic.escape_default()))
            .hint("`staithe help` lists all commands")
    };
    let noun = tree.find_subcommand(noun_name).ok_or_else(unknown)?;
    match (noun.find_subcommand(verb), verb, noun.has_subcommands()) {
        (Some(command), _, _) => Ok(command.clone().render_long_help().to_string()),
        (None, "", true) => Ok(format!("{}\n{}", about_text(noun), listing(&entries(noun)))),
        (None, "", false) => Ok(noun.clone().render_long_help().to_string()),
        (None, _, _) => Err(unknown()),
    }
}

fn about_text(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

/// `docs/COMMANDS.md`.
fn markdown(tree: &Command) -> String {
    let mut text = String::from(
        "# Commands\n\
         \n\
         Written by `staithe help --markdown`; a test keeps it current.\n\
         \n\
         `apps:create shop` can be written `apps create shop`, and `--app shop apps:create`. All\n\
         commands work over SSH as well: `ssh -p 2222 staithe@host ps:scale shop web=2`.\n\
         \n\
         Every command takes `--quiet` (print results only), `--force` (do not ask for\n\
         confirmation), `--run-dir <dir>` (which server) and `--help`.\n\
         \n\
         | exit code | meaning |\n\
         |---|---|\n\
         | 0 | done |\n\
         | 1 | it was tried and failed |\n\
         | 2 | the command line is wrong |\n\
         | 4 | refused: a rule, a conflict, a missing permission |\n\
         | 5 | the server cannot be reached, or went away; the outcome is unknown |\n\
         | 20 | what was named does not exist |\n\
         \n\
         `run` and `enter` end with the exit code of the command they ran.\n",
    );
    for noun in tree.get_subcommands().filter(|noun| !noun.is_hide_set()) {
        let _ = write!(text, "\n## {}\n\n", noun.get_name());
        if noun.has_subcommands() {
            let _ = write!(text, "{}.\n\n", about_text(noun));
        }
        for entry in entries(noun) {
            text.push_str(&markdown_entry(&entry));
        }
    }
    text
}

fn markdown_entry(entry: &Entry<'_>) -> String {
    let mut text =
        format!("- `{}` — {}\n", usage(entry.command, &entry.name), about_text(entry.command));
    for option in entry.command.get_arguments().filter(|option| is_own(option)) {
        let Some(long) = option.get_long() else { continue };
        let short = option.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
        let value = value(option);
        let help = option.get_help().map(ToString::to_string).unwrap_or_default();
        let _ = write!(text, "  - `{short}--{long}{value}`: {help}");
        let words = option.get_possible_values();
        if value.contains('<') && !words.is_empty() {
            let words: Vec<_> = words.iter().map(|word| format!("`{}`", word.get_name())).collect();
            let _ = write!(text, ": {}", words.join(", "));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command that issue 2 names.
    const COMMANDS: &str = "apps:create apps:list apps:exists apps:destroy apps:rename apps:clone \
        apps:info config:show config:get config:set config:unset config:keys config:export \
        config:import config:clear ps:scale ps:report ps:start ps:stop ps:restart ps:rebuild \
        releases:list releases:info rollback logs:show run enter domains:add domains:remove domains:set \
        domains:clear domains:report domains:set-global resource:limit resource:reserve \
        resource:report checks:report checks:set checks:run builds:list builds:info builds:output \
        builds:cancel ssh-keys:add ssh-keys:list ssh-keys:remove stack:build stack:list stack:info \
        stack:remove git:set events:list gc version help";

    #[test]
    fn help_lists_every_command() {
        let text = overview(&command::tree());
        for name in COMMANDS.split_whitespace() {
            let listed = text.lines().any(|line| {
                line.trim_start()
                    .strip_prefix(name)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
            });
            assert!(listed, "{name} is missing in\n{text}");
        }
    }

    #[test]
    fn every_command_and_option_has_a_sentence() {
        for noun in command::tree().get_subcommands() {
            for entry in entries(noun) {
                assert!(!about_text(entry.command).is_empty(), "{}", entry.name);
                for argument in entry.command.get_arguments() {
                    let id = argument.get_id();
                    assert!(argument.get_help().is_some(), "{} {id}", entry.name);
                }
            }
        }
    }

    #[test]
    fn a_group_and_a_command_have_pages() {
        let tree = command::tree();
        let group = about(&tree, "ps").unwrap();
        assert!(group.starts_with("Processes\n  ps:scale "), "{group}");
        let page = about(&tree, "ps:scale").unwrap();
        assert!(page.contains("Usage: staithe ps:scale [--format stdout|json] <app>"), "{page}");
        assert!(about(&tree, "ps:nope").is_err());
        assert!(about(&tree, "nope").is_err());
    }

    #[test]
    fn the_document_is_current() {
        let current = markdown(&command::tree());
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/COMMANDS.md");
        let document = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            document == current,
            "run `staithe help --markdown > docs/COMMANDS.md`; it should be:\n{current}"
        );
    }
}
