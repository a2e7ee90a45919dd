//! `logs`.

use clap::Args;

use super::client::escape;
use super::context::{Context, LogArgs};
use super::exit::Failure;
use super::output::{Format, FormatArg};
use crate::wire::LogLine;

/// `logs`.
#[derive(Debug, Args)]
pub(super) struct Logs {
    #[command(flatten)]
    log: LogArgs,
    /// Only this process type or instance: `web`, `web.2`
    #[arg(long, short, value_name = "process")]
    ps: Option<String>,
    /// Only the text, without time and instance (as --quiet)
    #[arg(short = 'q')]
    raw: bool,
    #[command(flatten)]
    format: FormatArg,
}

impl Logs {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let mut path = self.log.path("logs");
        if let Some(process) = &self.ps {
            path.push_str(&format!("&process={}", escape(process)));
        }
        let raw = self.raw || context.out.is_quiet();
        let (out, format) = (&mut context.out, self.format.format);
        let print = |line: LogLine| match format {
            Format::Json => out.json_line(&line),
            Format::Text => out.line(&text(&line, raw)),
        };
        context.client.values(&path, print).await
    }
}

fn text(line: &LogLine, raw: bool) -> String {
    match raw {
        true => line.text.clone(),
        false => format!("{} app[{}]: {}", line.at, line.process, line.text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_when_and_who_unless_they_are_raw() {
        let line = LogLine {
            at: "2026-01-02T03:04:05.123456Z".into(),
            process: "web.1".into(),
            stream: "stdout".into(),
            text: "listening".into(),
        };
        assert_eq!(text(&line, false), "2026-01-02T03:04:05.123456Z app[web.1]: listening");
        assert_eq!(text(&line, true), "listening");
    }
}
