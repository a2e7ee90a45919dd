//! The build plan: what buildpacks provide to and require of each other (CNB buildpack
//! specification, "Build Plan").

use serde::{Deserialize, Serialize};

/// A requirement handed to the buildpack that provides it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub name: String,
    #[serde(default)]
    pub metadata: toml::Table,
}

/// What one buildpack's detect wrote.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Plan {
    #[serde(flatten)]
    first: Part,
    #[serde(default)]
    or: Vec<Part>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Part {
    #[serde(default)]
    provides: Vec<Provide>,
    #[serde(default)]
    requires: Vec<Entry>,
}

#[derive(Debug, Clone, Deserialize)]
struct Provide {
    name: String,
}

impl Plan {
    fn parts(&self) -> impl Iterator<Item = &Part> {
        std::iter::once(&self.first).chain(&self.or)
    }
}

/// A buildpack that passed detection.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub plan: Plan,
    pub optional: bool,
}

/// The plan handed to one buildpack: `buildpack plan` in the specification.
#[derive(Debug, Default, Serialize)]
pub(super) struct BuildpackPlan<'a> {
    pub entries: &'a [Entry],
}

/// The most combinations of alternatives tried: it bounds what hostile plans cost.
const MAX_TRIALS: usize = 1024;

/// The candidates (by index) of the first combination of alternatives in which everything required
/// is provided, at or before its place, and everything provided is required; with the entries each
/// of them gets. Optional candidates that do not fit drop out.
pub(super) fn resolve(candidates: &[Candidate]) -> Option<Vec<(usize, Vec<Entry>)>> {
    let counts: Vec<usize> = candidates.iter().map(|c| c.plan.parts().count()).collect();
    let mut choice = vec![0; candidates.len()];
    for _ in 0..MAX_TRIALS {
        let parts: Vec<(usize, &Part, bool)> = candidates
            .iter()
            .enumerate()
            .filter_map(|(index, c)| {
                c.plan.parts().nth(choice[index]).map(|part| (index, part, c.optional))
            })
            .collect();
        if let Some(resolved) = trial(parts) {
            return Some(resolved);
        }
        if !advance(&mut choice, &counts) {
            return None;
        }
    }
    None
}

/// The next combination; the last candidate's alternatives change fastest.
fn advance(choice: &mut [usize], counts: &[usize]) -> bool {
    for (index, count) in counts.iter().enumerate().rev() {
        choice[index] += 1;
        if choice[index] < *count {
            return true;
        }
        choice[index] = 0;
    }
    false
}

fn trial(mut parts: Vec<(usize, &Part, bool)>) -> Option<Vec<(usize, Vec<Entry>)>> {
    while let Some((place, optional)) = misfit(&parts) {
        if !optional {
            return None;
        }
        parts.remove(place);
    }
    if parts.is_empty() {
        return None;
    }
    let entries_for = |part: &Part| -> Vec<Entry> {
        let provided = |name: &str| part.provides.iter().any(|p| p.name == name);
        let all = parts.iter().flat_map(|(_, part, _)| &part.requires);
        all.filter(|entry| provided(&entry.name)).cloned().collect()
    };
    Some(parts.iter().map(|(index, part, _)| (*index, entries_for(part))).collect())
}

/// The first part with an unmet requirement or an unwanted provision, and whether it is optional.
fn misfit(parts: &[(usize, &Part, bool)]) -> Option<(usize, bool)> {
    parts.iter().enumerate().find_map(|(place, (_, part, optional))| {
        let provided_before = |name: &str| {
            parts[..=place].iter().any(|(_, p, _)| p.provides.iter().any(|p| p.name == name))
        };
        let required_after = |name: &str| {
            parts[place..].iter().any(|(_, p, _)| p.requires.iter().any(|r| r.name == name))
        };
        let fits = part.requires.iter().all(|entry| provided_before(&entry.name))
            && part.provides.iter().all(|provide| required_after(&provide.name));
        (!fits).then_some((place, *optional))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(plan: &str) -> Candidate {
        let optional = plan.starts_with("#optional");
        Candidate { plan: toml::from_str(plan).unwrap(), optional }
    }

    fn check(plans: &[&str], expected: Option<&[(usize, &[&str])]>) {
        let candidates: Vec<_> = plans.iter().map(|plan| candidate(plan)).collect();
        let resolved = resolve(&candidates);
        let names: Option<Vec<(usize, Vec<String>)>> = resolved.map(|group| {
            group
                .into_iter()
                .map(|(index, entries)| (index, entries.into_iter().map(|e| e.name).collect()))
                .collect()
        });
        let expected = expected.map(|group| {
            group
                .iter()
                .map(|(index, names)| (*index, names.iter().map(ToString::to_string).collect()))
                .collect::<Vec<(usize, Vec<String>)>>()
        });
        assert_eq!(names, expected, "{plans:?}");
    }

    const PROVIDES: &str = "[[provides]]\nname = \"node\"";
    const REQUIRES: &str = "[[requires]]\nname = \"node\"";
    const OPTIONAL_REQUIRES: &str = "#optional\n[[requires]]\nname = \"node\"";
    const OPTIONAL_PROVIDES: &str = "#optional\n[[provides]]\nname = \"node\"";
    const EITHER: &str = "[[provides]]\nname = \"node\"\n[[or]]";

    #[test]
    fn buildpacks_without_a_plan_pass() {
        check(&["", ""], Some(&[(0, &[]), (1, &[])]));
        check(&[], None);
    }

    #[test]
    fn what_is_required_must_be_provided_before_and_what_is_provided_required() {
        check(&[PROVIDES, REQUIRES], Some(&[(0, &["node"]), (1, &[])]));
        check(&[REQUIRES, PROVIDES], None);
        check(&[PROVIDES], None);
        check(&[REQUIRES], None);
        check(&[&format!("{PROVIDES}\n{REQUIRES}")], Some(&[(0, &["node"])]));
    }

    #[test]
    fn optional_buildpacks_that_do_not_fit_drop_out() {
        check(&["", OPTIONAL_REQUIRES], Some(&[(0, &[])]));
        check(&[OPTIONAL_PROVIDES, ""], Some(&[(1, &[])]));
        check(&[OPTIONAL_PROVIDES, OPTIONAL_REQUIRES], Some(&[(0, &["node"]), (1, &[])]));
        check(&[OPTIONAL_REQUIRES], None);
    }

    #[test]
    fn alternatives_are_tried_in_order() {
        check(&[EITHER], Some(&[(0, &[])]));
        check(&[EITHER, REQUIRES], Some(&[(0, &["node"]), (1, &[])]));
    }

    #[test]
    fn hostile_numbers_of_alternatives_are_bounded() {
        let many = format!("{REQUIRES}\n{}", "[[or]]\nrequires = [{name = \"x\"}]\n".repeat(50));
        check(&[&many, &many, &many, &many], None);
    }
}
