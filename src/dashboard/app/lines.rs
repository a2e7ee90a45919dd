//! Lines of output and of logs as HTML, alike in a page and in what follows it live.

use std::fmt::Write;

use crate::dashboard::ansi;

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

#[cfg(test)]
mod tests {
    use super::*;

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
