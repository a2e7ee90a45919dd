//! Icons: paths on a 24-unit grid, drawn with the text's color.

/// An icon's SVG; an unknown name is a bug that shows as a dot.
pub(super) fn svg(name: &str) -> String {
    let path = ICONS.iter().find(|(known, _)| *known == name).map_or(DOT, |(_, path)| path);
    let class = if name == "spin" { "icon spin" } else { "icon" };
    format!(
        "<svg class=\"{class}\" viewBox=\"0 0 24 24\" width=\"16\" height=\"16\" fill=\"none\" \
         stroke=\"currentColor\" stroke-width=\"2\" stroke-linecap=\"round\" \
         stroke-linejoin=\"round\" aria-hidden=\"true\" focusable=\"false\">{path}</svg>"
    )
}

const DOT: &str = "<circle cx=\"12\" cy=\"12\" r=\"4\"/>";

const ICONS: &[(&str, &str)] = &[
    (
        "apps",
        "<rect x=\"3\" y=\"3\" width=\"7\" height=\"7\" rx=\"1.5\"/><rect x=\"14\" y=\"3\" width=\"7\" height=\"7\" rx=\"1.5\"/><rect x=\"3\" y=\"14\" width=\"7\" height=\"7\" rx=\"1.5\"/><rect x=\"14\" y=\"14\" width=\"7\" height=\"7\" rx=\"1.5\"/>",
    ),
    (
        "services",
        "<ellipse cx=\"12\" cy=\"5.5\" rx=\"8\" ry=\"3\"/><path d=\"M4 5.5v6.5c0 1.7 3.6 3 8 3s8-1.3 8-3V5.5M4 12v6.5c0 1.7 3.6 3 8 3s8-1.3 8-3V12\"/>",
    ),
    (
        "access",
        "<circle cx=\"9\" cy=\"8\" r=\"3.5\"/><path d=\"M2.5 20c.6-3.6 3-5.5 6.5-5.5s5.9 1.9 6.5 5.5M16 4.8a3.5 3.5 0 0 1 0 6.4M18 15c2 .8 3.1 2.5 3.5 5\"/>",
    ),
    ("events", "<path d=\"M3 12h4l2.5-7 5 14 2.5-7h4\"/>"),
    (
        "host",
        "<rect x=\"3\" y=\"4\" width=\"18\" height=\"7\" rx=\"1.5\"/><rect x=\"3\" y=\"13\" width=\"18\" height=\"7\" rx=\"1.5\"/><path d=\"M7 7.5h.01M7 16.5h.01M11 7.5h6M11 16.5h6\"/>",
    ),
    (
        "settings",
        "<path d=\"M4 7h9M17 7h3M4 17h3M11 17h9\"/><circle cx=\"15\" cy=\"7\" r=\"2\"/><circle cx=\"9\" cy=\"17\" r=\"2\"/>",
    ),
    ("search", "<circle cx=\"11\" cy=\"11\" r=\"6.5\"/><path d=\"m16 16 4.5 4.5\"/>"),
    ("plus", "<path d=\"M12 5v14M5 12h14\"/>"),
    ("check", "<path d=\"m5 12.5 4.5 4.5L19 7.5\"/>"),
    ("cross", "<path d=\"m6 6 12 12M18 6 6 18\"/>"),
    ("warn", "<path d=\"M12 4 2.8 20h18.4zM12 10v4M12 17h.01\"/>"),
    ("dot", DOT),
    ("spin", "<path d=\"M12 3.5a8.5 8.5 0 1 1-8.5 8.5\"/>"),
    (
        "link",
        "<path d=\"M14 4h6v6M20 4 10.5 13.5M18 14v4.5a1.5 1.5 0 0 1-1.5 1.5h-11A1.5 1.5 0 0 1 4 18.5v-11A1.5 1.5 0 0 1 5.5 6H10\"/>",
    ),
    (
        "copy",
        "<rect x=\"8\" y=\"8\" width=\"12\" height=\"12\" rx=\"2\"/><path d=\"M16 8V5.5A1.5 1.5 0 0 0 14.5 4h-9A1.5 1.5 0 0 0 4 5.5v9A1.5 1.5 0 0 0 5.5 16H8\"/>",
    ),
    (
        "sun",
        "<circle cx=\"12\" cy=\"12\" r=\"4\"/><path d=\"M12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4\"/>",
    ),
    ("moon", "<path d=\"M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z\"/>"),
    ("menu", "<path d=\"M4 7h16M4 12h16M4 17h16\"/>"),
    (
        "out",
        "<path d=\"M15 4h3.5A1.5 1.5 0 0 1 20 5.5v13a1.5 1.5 0 0 1-1.5 1.5H15M10 16l4-4-4-4M14 12H4\"/>",
    ),
    (
        "user",
        "<circle cx=\"12\" cy=\"8\" r=\"4\"/><path d=\"M4.5 20.5c.8-4 3.5-6 7.5-6s6.7 2 7.5 6\"/>",
    ),
    (
        "rocket",
        "<path d=\"M12 3c4 2.5 5.5 6.5 5 11l-2 2H9l-2-2c-.5-4.5 1-8.5 5-11zM9 16l-3 4M15 16l3 4\"/><circle cx=\"12\" cy=\"10\" r=\"1.5\"/>",
    ),
    ("key", "<circle cx=\"8\" cy=\"15\" r=\"4.5\"/><path d=\"m11.5 11.5 8-8M16 7l3 3\"/>"),
    ("trash", "<path d=\"M4 7h16M9 7V4.5h6V7M6 7l1 13h10l1-13M10 11v5M14 11v5\"/>"),
    ("play", "<path d=\"M7 4.5v15l12-7.5z\"/>"),
    ("stop", "<rect x=\"6\" y=\"6\" width=\"12\" height=\"12\" rx=\"1.5\"/>"),
    ("restart", "<path d=\"M20 12a8 8 0 1 1-2.5-5.8M20 3.5V8h-4.5\"/>"),
    ("back", "<path d=\"M9 14 4 9l5-5M4 9h10a6 6 0 0 1 0 12h-3\"/>"),
    (
        "terminal",
        "<rect x=\"3\" y=\"4\" width=\"18\" height=\"16\" rx=\"2\"/><path d=\"m7 9 3 3-3 3M12.5 15H17\"/>",
    ),
    (
        "eye",
        "<path d=\"M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12z\"/><circle cx=\"12\" cy=\"12\" r=\"3\"/>",
    ),
    ("edit", "<path d=\"M4 20h4L19.5 8.5l-4-4L4 16zM13.5 6.5l4 4\"/>"),
    ("clock", "<circle cx=\"12\" cy=\"12\" r=\"8.5\"/><path d=\"M12 7v5l3.5 2\"/>"),
    (
        "globe",
        "<circle cx=\"12\" cy=\"12\" r=\"8.5\"/><path d=\"M3.5 12h17M12 3.5c3 2.5 3.5 5.5 3.5 8.5s-.5 6-3.5 8.5c-3-2.5-3.5-5.5-3.5-8.5s.5-6 3.5-8.5z\"/>",
    ),
    (
        "lock",
        "<rect x=\"5\" y=\"11\" width=\"14\" height=\"9\" rx=\"2\"/><path d=\"M8 11V8a4 4 0 0 1 8 0v3\"/>",
    ),
    ("download", "<path d=\"M12 4v11M7 11l5 5 5-5M4 20h16\"/>"),
];
