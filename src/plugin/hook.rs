//! The moments at which plugins are run, and what a plugin may do at each.

use std::fmt;
use std::str::FromStr;

use super::OnFailure;

/// Makes the enumeration, its names and its list from one table.
macro_rules! hooks {
    ($($(#[$doc:meta])* $variant:ident $name:literal),* $(,)?) => {
        /// A moment at which plugins are run. Names are Dokku's where the meaning is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Hook {
            $($(#[$doc])* $variant,)*
        }

        impl Hook {
            /// All hooks.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As manifests spell it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

hooks! {
    /// An app is about to be made.
    PreCreate "pre-create",
    /// An app is about to be destroyed.
    PreDelete "pre-delete",
    /// Commits have been pushed to the deploy branch.
    PreReceiveApp "pre-receive-app",
    /// A build is about to begin.
    PreBuild "pre-build",
    /// A release is about to be recorded.
    PreRelease "pre-release",
    /// A release is about to be started.
    PreDeploy "pre-deploy",
    /// A service is about to be linked to an app.
    PreServiceLink "pre-service-link",
    /// Somebody asks for something.
    UserAuth "user-auth",
    /// The proxy's table is about to be made.
    Routes "routes",
    /// An app was made.
    PostCreate "post-create",
    /// An app was destroyed.
    PostDelete "post-delete",
    /// An app has another name.
    PostAppRename "post-app-rename",
    /// An app was copied.
    PostAppCloneSetup "post-app-clone-setup",
    /// A build has succeeded.
    PostBuild "post-build",
    /// A release serves.
    PostDeploy "post-deploy",
    /// A build or a deploy has failed.
    DeployFailed "deploy-failed",
    /// The formation was changed.
    PostScale "post-scale",
    /// An instance ended by itself.
    InstanceCrashed "instance-crashed",
    /// An app's domains were changed.
    PostDomainsUpdate "post-domains-update",
    /// A certificate was issued or renewed.
    CertificateIssued "certificate-issued",
    /// A certificate could not be issued or renewed.
    CertificateFailed "certificate-failed",
    /// A service was made.
    PostServiceCreate "post-service-create",
    /// A service was destroyed.
    PostServiceDestroy "post-service-destroy",
    /// A service was linked to an app.
    PostServiceLink "post-service-link",
    /// A service is no longer linked to an app.
    PostServiceUnlink "post-service-unlink",
    /// A backup was made and verified.
    BackupSucceeded "backup-succeeded",
    /// A backup failed, or is not what it should be.
    BackupFailed "backup-failed",
    /// A cron task has run well.
    CronSucceeded "cron-succeeded",
    /// A cron task has failed, or was missed.
    CronFailed "cron-failed",
    /// Anything was noted in the list of events.
    Event "event",
    /// The plugin was installed.
    Install "install",
    /// The plugin was replaced by another version.
    Update "update",
    /// The plugin is about to be removed.
    Uninstall "uninstall",
    /// The plugin was switched on.
    Enable "enable",
    /// The plugin was switched off.
    Disable "disable",
}

impl Hook {
    /// Whether a plugin may refuse what is about to happen.
    pub fn may_veto(self) -> bool {
        matches!(
            self,
            Self::PreCreate
                | Self::PreDelete
                | Self::PreReceiveApp
                | Self::PreBuild
                | Self::PreRelease
                | Self::PreDeploy
                | Self::PreServiceLink
                | Self::UserAuth
        )
    }

    /// Whether a plugin may change what is about to happen.
    pub fn may_change(self) -> bool {
        matches!(self, Self::PreBuild | Self::PreRelease | Self::Routes)
    }

    /// Whether its answer is waited for.
    pub fn is_asked(self) -> bool {
        self.may_veto() || self.may_change()
    }

    /// What a plugin that gives no answer counts as, unless its manifest says otherwise.
    pub fn default_on_failure(self) -> OnFailure {
        match self {
            Self::UserAuth => OnFailure::Refuse,
            _ => OnFailure::Allow,
        }
    }
}

impl FromStr for Hook {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().copied().find(|hook| hook.as_str() == text);
        found.ok_or_else(|| format!("`{}` is no hook", text.escape_default()))
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hook_is_read_by_its_name() {
        for hook in Hook::ALL {
            assert_eq!(hook.as_str().parse::<Hook>().unwrap(), *hook);
        }
        assert_eq!("post-nothing".parse::<Hook>().unwrap_err(), "`post-nothing` is no hook");
    }

    #[test]
    fn only_what_has_not_happened_yet_can_be_refused_or_changed() {
        for hook in Hook::ALL {
            let before =
                hook.as_str().starts_with("pre-") || matches!(hook, Hook::UserAuth | Hook::Routes);
            assert_eq!(hook.is_asked(), before, "{hook}");
        }
    }
}
