//! JSON as people write it: comments and trailing commas tolerated, as Dokku does for `app.json`.

/// The same text as plain JSON: comments and trailing commas become spaces, so that lines and
/// columns in the JSON parser's errors stay right. Strings are left alone.
pub(super) fn to_json(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    // The comma that a closing bracket would make a trailing one.
    let mut comma = None;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at = end_of_string(&bytes, at);
                comma = None;
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                let end = find(&bytes, at, b"\n").unwrap_or(bytes.len());
                blank(&mut bytes[at..end]);
                at = end;
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                let end = find(&bytes, at + 2, b"*/").map_or(bytes.len(), |end| end + 2);
                blank(&mut bytes[at..end]);
                at = end;
                continue;
            }
            b',' => comma = Some(at),
            b']' | b'}' => {
                if let Some(comma) = comma.take() {
                    bytes[comma] = b' ';
                }
            }
            byte if byte.is_ascii_whitespace() => {}
            _ => comma = None,
        }
        at += 1;
    }
    // Only whole comments and ASCII commas were replaced, so it still is UTF-8.
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The index after the string that starts at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn find(bytes: &[u8], from: usize, wanted: &[u8]) -> Option<usize> {
    let tail = bytes.get(from..)?;
    tail.windows(wanted.len()).position(|window| window == wanted).map(|index| from + index)
}

fn blank(bytes: &mut [u8]) {
    for byte in bytes {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: serde_json::Value) {
        let value: serde_json::Value = serde_json::from_str(&to_json(text)).unwrap();
        assert_eq!(value, expected, "{text}");
    }

    #[test]
    fn comments_and_trailing_commas_are_tolerated_outside_strings() {
        use serde_json::json;
        check("{\"a\": 1, // note\n }", json!({"a": 1}));
        check("/* é */ [1, 2, /* x, */ ]", json!([1, 2]));
        check(r#"["http://x", "a,]", "\"//", "/*",]"#, json!(["http://x", "a,]", "\"//", "/*"]));
        check("[[],{},]", json!([[], {}]));
    }

    #[test]
    fn what_is_not_json_stays_an_error() {
        for bad in ["[,]x", "[1,,2]", "{\"a\":}", "[1 2]", "\"open", "/* open", "//"] {
            assert!(serde_json::from_str::<serde_json::Value>(&to_json(bad)).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_input_breaks_it_and_lines_stay(text in "[\\x00-\\x7fé\"/*,\\]\\\\\n]{0,80}") {
            let lines = text.matches('\n').count();
            proptest::prop_assert_eq!(to_json(&text).matches('\n').count(), lines);
        }
    }
}
