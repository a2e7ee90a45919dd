//! Lines of output and of logs as HTML, alike in a page and in what follows it live.

use std::fmt::Write;

use crate::dashboard::ansi;
use crate::domain::LogLine;

/// A build's line in Heroku's grammar.
pub(super) fn of_build(line: &str, html: &mut String) {
    let class = match line {
        _ if line.starts_with("=====> ") => "section",
        _ if line.starts_with("-----> ") => "step",
        _ if line.starts_with(" !     ") => "notice",
        _ => "detail",
    };
    // Writing to a string cannot fail.
    let _ = writeln!(html, "<div class=\"ln {class}\">{}</div>", ansi::to_html(line));
}

/// A line of an app's log: when, whose, what.
pub(super) fn of_log(line: &LogLine, html: &mut String) {
    let (source, level) = (line.source.as_str(), line.level.as_str());
    let clock = line.at.get(11..23).unwrap_or(&line.at);
    // A process's name, a time and a text are whatever somebody wrote: all go the same way.
    let (at, clock) = (ansi::to_html(&line.at), ansi::to_html(clock));
    let (process, text) = (ansi::to_html(&line.process), ansi::to_html(&line.text));
    // Writing to a string cannot fail.
    let _ = writeln!(
        html,
        "<div class=\"ln row {source} {level}\"><time title=\"{at}\">{clock}</time>\
         <b>{process}</b><span>{text}</span></div>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_is_text_wherever_an_app_can_write() {
        let line = LogLine {
            at: "2026-01-02T03:04:05.000006Z".into(),
            source: crate::domain::LogSource::App,
            process: "web.1<i>".into(),
            release: None,
            stream: crate::domain::LogStream::Stderr,
            level: crate::domain::LogLevel::Error,
            text: "\u{1b}[31m</span></div><script>x</script>".into(),
            cursor: crate::domain::LogCursor { at: 1, file: 1, offset: 1 },
        };
        let mut html = String::new();
        of_log(&line, &mut html);
        let expected = "<div class=\"ln row app error\"><time title=\"2026-01-02T03:04:05.000006Z\">\
            03:04:05.000</time><b>web.1&lt;i&gt;</b><span><span class=\"a-f1\">&lt;/span&gt;\
            &lt;/div&gt;&lt;script&gt;x&lt;/script&gt;</span></span></div>\n";
        assert_eq!(html, expected);
    }

    #[test]
    fn a_builds_line_has_the_class_of_its_mark_and_no_markup_of_its_own() {
        let mut html = String::new();
        of_build("-----> Building <b>shop</b>", &mut html);
        of_build(" !     Push rejected", &mut html);
        let expected = "<div class=\"ln step\">-----&gt; Building &lt;b&gt;shop&lt;/b&gt;</div>\n\
                        <div class=\"ln notice\"> !     Push rejected</div>\n";
        assert_eq!(html, expected);
    }
}
