//! What a push wants to change, and what follows from it; pure.

use super::CommitId;
use crate::domain::BranchName;

/// The most refs one push may change: each is a line the hook sends on and the platform looks at.
const MAX_UPDATES: usize = 1000;
/// Branches that make an app's first push a deploy, best first.
const FIRST_BRANCHES: [&str; 2] = ["main", "master"];

/// One ref that a push wants to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefUpdate {
    /// The full name, `refs/heads/main`.
    pub name: String,
    /// What it shall become.
    pub change: Change,
}

/// How a ref changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// There was none of this name.
    Create(CommitId),
    /// From the first to the second; not always forward.
    Update(CommitId, CommitId),
    /// It goes away; this is what it was.
    Delete(CommitId),
}

/// What a ref's name says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefKind<'a> {
    /// Below `refs/heads/`.
    Branch(&'a str),
    /// Below `refs/tags/`.
    Tag(&'a str),
    /// Anything else: notes, pull requests.
    Other,
}

/// A line that is no ref update.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUpdate {
    /// Not `<old> <new> <name>`, see githooks(5).
    #[error("`{0}` is not a ref update")]
    Line(String),
    /// Too many refs in one push.
    #[error("more than {MAX_UPDATES} refs in one push")]
    TooMany,
}

/// What is to be done about a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushPlan {
    /// What to build and deploy; none when the push only stores refs.
    pub deploy: Option<DeployRef>,
    /// What to tell the user.
    pub notes: Vec<Note>,
}

/// The branch and commit that a push deploys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployRef {
    /// The branch's short name.
    pub branch: BranchName,
    /// Its new head.
    pub commit: CommitId,
    /// Whether this push is the one that chooses the branch.
    pub chosen_now: bool,
}

/// Something the user should know about a push that is not refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Note {
    /// Stored, not deployed.
    #[error("branch `{branch}` is stored; only `{deploy_branch}` is deployed")]
    OtherBranch {
        /// What was pushed.
        branch: String,
        /// What would deploy.
        deploy_branch: String,
    },
    /// Stored, and the app has no deploy branch yet.
    #[error("branch `{branch}` is stored; nothing is deployed before `main` or `master` is pushed")]
    NoDeployBranch {
        /// What was pushed.
        branch: String,
    },
    /// Tags are stored.
    #[error("{0} tag(s) stored; tags are not deployed")]
    Tags(usize),
}

/// Why a push must not be let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It would delete the branch that serves.
    #[error("`{0}` is the deploy branch and cannot be deleted")]
    DeletesDeployBranch(BranchName),
}

impl RefUpdate {
    /// From the three words of a `pre-receive` line: object names of 40 digits, zeros for none.
    ///
    /// # Errors
    /// [`InvalidUpdate::Line`] when the words are not that.
    pub fn parse(old: &str, new: &str, name: &str) -> Result<Self, InvalidUpdate> {
        let invalid = || {
            let line = format!("{old} {new} {name}");
            InvalidUpdate::Line(line.escape_debug().take(200).collect())
        };
        let safe = name.starts_with("refs/") && !name.chars().any(|c| c.is_control() || c == ' ');
        let old = CommitId::parse_or_null(old).map_err(|_| invalid())?;
        let new = CommitId::parse_or_null(new).map_err(|_| invalid())?;
        let change = match (old, new) {
            (None, Some(new)) => Change::Create(new),
            (Some(old), Some(new)) => Change::Update(old, new),
            (Some(old), None) => Change::Delete(old),
            (None, None) => return Err(invalid()),
        };
        if safe { Ok(Self { name: name.to_owned(), change }) } else { Err(invalid()) }
    }

    /// All lines that git gives `pre-receive` on its standard input, see githooks(5).
    ///
    /// # Errors
    /// A line is no update, or there are too many.
    pub fn parse_all(input: &str) -> Result<Vec<Self>, InvalidUpdate> {
        let parse = |line: &str| {
            let mut words = line.splitn(3, ' ');
            let mut word = || words.next().ok_or_else(|| InvalidUpdate::Line(line.to_owned()));
            Self::parse(word()?, word()?, word()?)
        };
        let updates: Vec<_> =
            input.lines().take(MAX_UPDATES + 1).map(parse).collect::<Result<_, _>>()?;
        if updates.len() > MAX_UPDATES { Err(InvalidUpdate::TooMany) } else { Ok(updates) }
    }

    /// What the name says.
    pub fn kind(&self) -> RefKind<'_> {
        if let Some(branch) = self.name.strip_prefix("refs/heads/") {
            RefKind::Branch(branch)
        } else if let Some(tag) = self.name.strip_prefix("refs/tags/") {
            RefKind::Tag(tag)
        } else {
            RefKind::Other
        }
    }

    /// What the ref shall point to; none when it is deleted.
    pub fn target(&self) -> Option<&CommitId> {
        match &self.change {
            Change::Create(new) | Change::Update(_, new) => Some(new),
            Change::Delete(_) => None,
        }
    }
}

/// Decides what a push means for an app whose deploy branch is `deploy_branch`; none before the
/// first push of `main` or `master`, which then becomes it.
///
/// # Errors
/// Why the whole push is refused.
pub fn plan_push(
    updates: &[RefUpdate],
    deploy_branch: Option<&BranchName>,
) -> Result<PushPlan, Refusal> {
    let deletes_it = |update: &&RefUpdate| {
        update.target().is_none()
            && deploy_branch.is_some_and(|b| update.kind() == RefKind::Branch(b.as_str()))
    };
    if let (Some(branch), Some(_)) = (deploy_branch, updates.iter().find(deletes_it)) {
        return Err(Refusal::DeletesDeployBranch(branch.clone()));
    }
    let deploy = match deploy_branch {
        Some(branch) => target_of(updates, branch.as_str()).map(|commit| DeployRef {
            branch: branch.clone(),
            commit,
            chosen_now: false,
        }),
        None => FIRST_BRANCHES.iter().find_map(|name| {
            let commit = target_of(updates, name)?;
            Some(DeployRef { branch: name.parse().ok()?, commit, chosen_now: true })
        }),
    };
    let branch = deploy.as_ref().map(|deploy| &deploy.branch).or(deploy_branch);
    Ok(PushPlan { notes: notes(updates, branch), deploy })
}

fn target_of(updates: &[RefUpdate], branch: &str) -> Option<CommitId> {
    updates.iter().find(|update| update.kind() == RefKind::Branch(branch))?.target().cloned()
}

fn notes(updates: &[RefUpdate], deploy_branch: Option<&BranchName>) -> Vec<Note> {
    let stored = updates.iter().filter(|update| update.target().is_some());
    let tags = stored.clone().filter(|update| matches!(update.kind(), RefKind::Tag(_))).count();
    let branches = stored.filter_map(|update| match (update.kind(), deploy_branch) {
        (RefKind::Branch(branch), Some(deploys)) if branch != deploys.as_str() => {
            let deploy_branch = deploys.to_string();
            Some(Note::OtherBranch { branch: branch.to_owned(), deploy_branch })
        }
        (RefKind::Branch(branch), None) => Some(Note::NoDeployBranch { branch: branch.to_owned() }),
        _ => None,
    });
    branches.chain((tags > 0).then_some(Note::Tags(tags))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: &str = "0000000000000000000000000000000000000000";
    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn plan(lines: &[(&str, &str, &str)], branch: Option<&str>) -> Result<PushPlan, Refusal> {
        let updates: Vec<_> = lines
            .iter()
            .map(|(old, new, name)| RefUpdate::parse(old, new, name).unwrap())
            .collect();
        plan_push(&updates, branch.map(|b| b.parse().unwrap()).as_ref())
    }

    #[track_caller]
    fn check(
        lines: &[(&str, &str, &str)],
        branch: Option<&str>,
        deploys: Option<&str>,
        notes: &[&str],
    ) {
        let plan = plan(lines, branch).unwrap();
        assert_eq!(plan.deploy.as_ref().map(|d| d.branch.as_str()), deploys);
        assert_eq!(plan.notes.iter().map(ToString::to_string).collect::<Vec<_>>(), notes);
    }

    #[test]
    fn the_first_push_of_main_or_master_chooses_the_deploy_branch() {
        check(&[(ZERO, A, "refs/heads/master")], None, Some("master"), &[]);
        let both = [(ZERO, A, "refs/heads/master"), (ZERO, B, "refs/heads/main")];
        check(&both, None, Some("main"), &["branch `master` is stored; only `main` is deployed"]);
        assert!(plan(&both, None).unwrap().deploy.unwrap().chosen_now);
    }

    #[test]
    fn other_branches_and_tags_are_stored_with_a_note() {
        let dev = "branch `dev` is stored; nothing is deployed before `main` or `master` is pushed";
        check(&[(ZERO, A, "refs/heads/dev")], None, None, &[dev]);
        let dev = "branch `dev` is stored; only `main` is deployed";
        check(&[(ZERO, A, "refs/heads/dev")], Some("main"), None, &[dev]);
        let tags = "2 tag(s) stored; tags are not deployed";
        let lines =
            [(ZERO, A, "refs/tags/v1"), (ZERO, B, "refs/tags/v2"), (A, ZERO, "refs/tags/x")];
        check(&lines, Some("main"), None, &[tags]);
    }

    #[test]
    fn several_refs_in_one_push_deploy_once() {
        let lines = [(A, B, "refs/heads/main"), (ZERO, A, "refs/heads/main2")];
        let note = "branch `main2` is stored; only `main` is deployed";
        check(&lines, Some("main"), Some("main"), &[note]);
    }

    #[test]
    fn deleting_the_deploy_branch_is_refused_and_others_are_not() {
        let lines = [(A, ZERO, "refs/heads/main"), (A, B, "refs/heads/dev")];
        let refusal = plan(&lines, Some("main")).unwrap_err();
        assert_eq!(refusal.to_string(), "`main` is the deploy branch and cannot be deleted");
        check(&[(A, ZERO, "refs/heads/dev")], Some("main"), None, &[]);
    }

    #[test]
    fn lines_that_git_would_not_write_are_refused() {
        let good = format!("{ZERO} {A} refs/heads/main\n{A} {B} refs/tags/v1\n");
        assert_eq!(RefUpdate::parse_all(&good).unwrap().len(), 2);
        let bad = [
            "x".to_owned(),
            format!("{ZERO} {ZERO} refs/heads/main"),
            format!("{A} {B}"),
            format!("{A} {B} heads/main"),
            format!("{A} {B} refs/heads/\u{1b}[2J"),
            format!("{A} {} refs/heads/main", "g".repeat(40)),
        ];
        for line in bad {
            let error = RefUpdate::parse_all(&line).unwrap_err();
            assert!(!error.to_string().contains('\u{1b}'), "{error}");
        }
        let many = format!("{ZERO} {A} refs/heads/main\n").repeat(MAX_UPDATES + 1);
        assert_eq!(RefUpdate::parse_all(&many), Err(InvalidUpdate::TooMany));
    }
}
