//! How layers change the environment (CNB buildpack specification, "Environment").

use std::collections::BTreeMap;

/// Variables by name.
pub(super) type Variables = BTreeMap<String, String>;

/// The files of one `env` directory: name and contents.
pub(super) type EnvFiles = BTreeMap<String, String>;

/// The directories of a layer that lengthen search paths, for a build and at run time.
pub(super) const BUILD_PATHS: [(&str, &str); 5] = [
    ("bin", "PATH"),
    ("lib", "LD_LIBRARY_PATH"),
    ("lib", "LIBRARY_PATH"),
    ("include", "CPATH"),
    ("pkgconfig", "PKG_CONFIG_PATH"),
];
pub(super) const LAUNCH_PATHS: [(&str, &str); 2] = [("bin", "PATH"), ("lib", "LD_LIBRARY_PATH")];

/// The variables that are lists of paths: a user's value comes before the others'.
const PATH_LISTS: [&str; 5] =
    ["PATH", "LD_LIBRARY_PATH", "LIBRARY_PATH", "CPATH", "PKG_CONFIG_PATH"];

/// Puts `value` before what `name` has, with `delimiter` between them.
pub(super) fn prepend(variables: &mut Variables, name: &str, value: &str, delimiter: &str) {
    let joined = match variables.get(name) {
        Some(old) if !old.is_empty() => format!("{value}{delimiter}{old}"),
        _ => value.to_owned(),
    };
    variables.insert(name.to_owned(), joined);
}

/// Applies the files of an `env` directory: the suffix says how, the name before it says to what.
pub(super) fn apply(variables: &mut Variables, files: &EnvFiles) {
    for (file, value) in files {
        let (name, action) = file.rsplit_once('.').unwrap_or((file, "override"));
        if !is_name(name) || value.contains('\0') {
            continue;
        }
        let delimiter = files.get(&format!("{name}.delim")).map_or("", String::as_str);
        match action {
            "override" => {
                variables.insert(name.to_owned(), value.clone());
            }
            "default" => {
                variables.entry(name.to_owned()).or_insert_with(|| value.clone());
            }
            "prepend" => prepend(variables, name, value, delimiter),
            "append" => {
                let joined = match variables.get(name) {
                    Some(old) if !old.is_empty() => format!("{old}{delimiter}{value}"),
                    _ => value.clone(),
                };
                variables.insert(name.to_owned(), joined);
            }
            _ => {}
        }
    }
}

/// Applies a user's variable: path lists are put before, all others replaced.
pub(super) fn apply_user(variables: &mut Variables, name: &str, value: &str) {
    match PATH_LISTS.contains(&name) {
        true => prepend(variables, name, value, ":"),
        false => {
            variables.insert(name.to_owned(), value.to_owned());
        }
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(before: &[(&str, &str)], files: &[(&str, &str)], expected: &[(&str, &str)]) {
        let owned = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let mut variables = owned(before);
        apply(&mut variables, &owned(files));
        assert_eq!(variables, owned(expected), "{files:?}");
    }

    #[test]
    fn the_suffix_says_how_a_variable_changes() {
        check(&[("A", "1")], &[("A", "2")], &[("A", "2")]);
        check(&[("A", "1")], &[("A.override", "2")], &[("A", "2")]);
        check(&[("A", "1")], &[("A.default", "2")], &[("A", "1")]);
        check(&[], &[("A.default", "2")], &[("A", "2")]);
        check(&[("A", "1")], &[("A.append", "2")], &[("A", "12")]);
        check(&[("A", "1")], &[("A.append", "2"), ("A.delim", ":")], &[("A", "1:2")]);
        check(&[("A", "1")], &[("A.prepend", "2"), ("A.delim", ":")], &[("A", "2:1")]);
        check(&[], &[("A.prepend", "2"), ("A.delim", ":")], &[("A", "2")]);
        check(&[("A", "1")], &[("A.odd", "2"), ("A=B", "3"), (".default", "4")], &[("A", "1")]);
        check(&[], &[("A", "nul\0")], &[]);
    }

    #[test]
    fn a_users_paths_come_first_and_other_values_win() {
        let mut variables = Variables::from([("PATH".into(), "/bin".into())]);
        apply_user(&mut variables, "PATH", "/mine");
        apply_user(&mut variables, "NODE_ENV", "test");
        assert_eq!(variables["PATH"], "/mine:/bin");
        assert_eq!(variables["NODE_ENV"], "test");
    }
}
