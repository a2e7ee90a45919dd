//! The text, read back by the rules of the specification.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// A family: its kind, and its samples with their labels as text.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

fn is_name(text: &str) -> bool {
    let first = text.bytes().next();
    first.is_some_and(|c| c.is_ascii_alphabetic() || c == b'_')
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
}

/// `name="value",…`; panics at anything else.
fn labels(text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").expect("a label has a value in quotes");
        assert!(is_name(name), "label name {name:?}");
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().expect("a closing quote") {
                (at, '"') => break at,
                (_, '\\') => match chars.next().expect("an escaped character").1 {
                    'n' => value.push('\n'),
                    c @ ('\\' | '"') => value.push(c),
                    c => panic!("escape \\{c}"),
                },
                (_, '\n') => panic!("a bare line feed"),
                (_, c) => value.push(c),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "label {name} twice");
        rest = &after[end + 1..];
        if !rest.is_empty() {
            rest = rest.strip_prefix(',').expect("a comma between labels");
            assert!(!rest.is_empty(), "a comma at the end");
        }
    }
    labels
}

/// Reads `text`, and panics where it breaks the specification.
fn parse(text: &str) -> BTreeMap<String, Family> {
    let body = text.strip_suffix("# EOF\n").expect("`# EOF` at the end");
    let mut families = BTreeMap::<String, Family>::new();
    let mut current = String::new();
    for line in body.lines() {
        assert!(!line.is_empty() && !line.starts_with(' '), "line {line:?}");
        if let Some(meta) = line.strip_prefix("# ") {
            let mut words = meta.splitn(3, ' ');
            let (what, name) = (words.next().unwrap(), words.next().unwrap());
            let value = words.next().unwrap();
            if name != current {
                assert_eq!(what, "TYPE", "{line}");
                assert!(is_name(name) && !families.contains_key(name), "family {name} twice");
                current = name.to_owned();
                families.insert(current.clone(), Family::default());
            }
            let family = families.get_mut(name).unwrap();
            assert!(family.samples.is_empty(), "metadata after samples: {line}");
            match what {
                "TYPE" => family.kind = value.to_owned(),
                "UNIT" => assert!(name.ends_with(&format!("_{value}")), "{line}"),
                "HELP" => assert!(!value.is_empty()),
                what => panic!("metadata {what}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let (name, labelled) = match series.split_once('{') {
            Some((name, rest)) => (name, labels(rest.strip_suffix('}').expect("a brace"))),
            None => (series, BTreeMap::new()),
        };
        let suffix = name.strip_prefix(current.as_str()).expect("samples in their family");
        let value: f64 = value.parse().unwrap();
        let family = families.get_mut(&current).unwrap();
        let allowed: &[&str] = match family.kind.as_str() {
            "gauge" => &[""],
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_count", "_sum"],
            kind => panic!("kind {kind}"),
        };
        assert!(allowed.contains(&suffix) && value >= 0.0, "{line}");
        family.samples.push((suffix.to_owned(), labelled, value));
    }
    for (name, family) in &families {
        let series: BTreeSet<_> =
            family.samples.iter().map(|(suffix, labels, _)| (suffix, labels)).collect();
        assert_eq!(series.len(), family.samples.len(), "{name} has a series twice");
    }
    families
}

fn metrics() -> Metrics {
    let release = |version| ReleaseMetrics {
        app: "shop".parse().unwrap(),
        release: version,
        open: 2,
        ended: [[1, 20, 0, 3, 0, 0], [0, 5, 0, 0, 1, 2]],
        received_bytes: 7,
        sent_bytes: 1 << 40,
        latency_us: 12_345_678,
        latencies: [10, 5, 0, 0, 4, 0, 0, 0, 0, 0, 0, 1],
    };
    Metrics {
        connections: 3,
        errors: BTreeMap::from([("app-busy".to_owned(), 4), ("we\"ird\\\n".to_owned(), 1)]),
        releases: vec![
            release(CountedRelease::Older),
            release(CountedRelease::Version(crate::domain::ReleaseVersion(7))),
        ],
        ..Metrics::default()
    }
}

#[test]
fn the_text_is_openmetrics_and_says_what_was_counted() {
    let families = parse(&render(Some(&metrics())));
    assert_eq!(families["staithe_proxy_up"].samples[0].2, 1.0);
    assert_eq!(families["staithe_proxy_connections"].samples[0].2, 3.0);
    let errors = &families["staithe_proxy_errors"];
    assert!(errors.samples.iter().any(|(_, labels, _)| labels["code"] == "we\"ird\\\n"));
    let requests = &families["staithe_requests"];
    let total: f64 = requests.samples.iter().map(|(_, _, value)| value).sum();
    assert_eq!(total, 64.0);
    let histogram = &families["staithe_request_duration_seconds"];
    assert_eq!(histogram.kind, "histogram");
    for release in ["older", "v7"] {
        let of = |suffix: &str| -> Vec<_> {
            let samples = histogram.samples.iter();
            let mine = samples.filter(|(known, labels, _)| {
                known == suffix && labels["app"] == "shop" && labels["release"] == release
            });
            mine.map(|(_, labels, value)| (labels.get("le").cloned(), *value)).collect()
        };
        let buckets = of("_bucket");
        assert_eq!(buckets.first().unwrap().0.as_deref(), Some("0.005"));
        assert_eq!(buckets.last().unwrap(), &(Some("+Inf".into()), 20.0));
        assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{buckets:?}");
        assert_eq!(of("_count"), [(None, 20.0)]);
        assert_eq!(of("_sum"), [(None, 12.345678)]);
    }
}

#[test]
fn a_proxy_that_does_not_answer_is_down() {
    let families = parse(&render(None));
    assert_eq!(families.len(), 1);
    assert_eq!(families["staithe_proxy_up"].samples[0].2, 0.0);
}
