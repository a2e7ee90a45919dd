//! Events: what happened, who did it, from where, and what it changed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::access::EventSight;
use super::{Actor, AppName, Timestamp};

/// One thing that happened, kept for `events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Event {
    /// Its number, ascending.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// The app it concerns, under its name at the time.
    pub app: Option<AppName>,
    /// What kind: `app.created`, `release.deployed`, `instance.crashed`.
    pub kind: String,
    /// One sentence for people.
    pub message: String,
    /// Who caused it, and from where.
    pub actor: Actor,
    /// What was there before, of a change; secrets only by their names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What is there now, of a change; secrets only by their names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// Kinds that tell about users, keys and tokens.
const OF_ACCESS: [&str; 5] = ["user.", "token.", "ssh-key.", "access.", "session."];

impl Event {
    /// Whether it tells about users, keys or tokens: for those only who may manage them.
    pub fn is_of_access(&self) -> bool {
        OF_ACCESS.iter().any(|prefix| self.kind.starts_with(prefix))
    }
}

/// Which events are asked for; all conditions hold at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only of this app.
    pub app: Option<AppName>,
    /// Only of this kind, or of kinds that begin with it: `release.`, `release`.
    pub kind: Option<String>,
    /// Only caused by this user.
    pub actor: Option<String>,
    /// Only from then on.
    pub since: Option<Timestamp>,
    /// Only before then.
    pub until: Option<Timestamp>,
    /// Only with a lower number.
    pub before: Option<i64>,
    /// Only with a higher number.
    pub after: Option<i64>,
    /// Only what this viewer may see.
    pub sight: EventSight,
}

impl EventFilter {
    /// Whether `event` is one of them.
    pub fn holds(&self, event: &Event) -> bool {
        let is = |wanted: &Option<String>, what: &str| wanted.as_ref().is_none_or(|w| w == what);
        let kind = self.kind.as_ref().is_none_or(|kind| event.kind.starts_with(kind.as_str()));
        kind && is(&self.actor, &event.actor.name)
            && (self.app.is_none() || self.app == event.app)
            && self.since.is_none_or(|since| event.at >= since)
            && self.until.is_none_or(|until| event.at < until)
            && self.before.is_none_or(|before| event.id < before)
            && self.after.is_none_or(|after| event.id > after)
            && self.sight.shows(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: i64, app: Option<&str>, kind: &str) -> Event {
        Event {
            id,
            at: Timestamp(id * 10),
            app: app.map(|name| name.parse().unwrap()),
            kind: kind.into(),
            message: "m".into(),
            actor: Actor::new("alice", "ssh"),
            before: None,
            after: None,
        }
    }

    #[test]
    fn each_condition_takes_away() {
        let all = || EventFilter { sight: EventSight::everything(), ..EventFilter::default() };
        let shop = event(5, Some("shop"), "release.deployed");
        assert!(all().holds(&shop));
        assert!(EventFilter { kind: Some("release.".into()), ..all() }.holds(&shop));
        assert!(EventFilter { since: Some(Timestamp(50)), ..all() }.holds(&shop));
        for narrow in [
            EventFilter { app: Some("blog".parse().unwrap()), ..all() },
            EventFilter { kind: Some("build".into()), ..all() },
            EventFilter { actor: Some("bob".into()), ..all() },
            EventFilter { since: Some(Timestamp(51)), ..all() },
            EventFilter { until: Some(Timestamp(50)), ..all() },
            EventFilter { before: Some(5), ..all() },
            EventFilter { after: Some(5), ..all() },
            EventFilter::default(),
        ] {
            assert!(!narrow.holds(&shop), "{narrow:?}");
        }
    }

    #[test]
    fn a_viewer_sees_what_concerns_them() {
        let shop = Some("shop".parse().unwrap());
        let only_shop = EventSight { apps: shop.map(|app| vec![app]), ..EventSight::default() };
        let viewer = EventSight { apps: None, platform: true, access: false };
        let rows = [
            (event(1, Some("shop"), "app.created"), true, true),
            (event(2, Some("blog"), "app.created"), false, true),
            (event(3, None, "stack.built"), false, true),
            (event(4, None, "token.created"), false, false),
            (event(5, Some("shop"), "access.added"), true, true),
        ];
        for (event, of_shop, of_viewer) in rows {
            assert_eq!(only_shop.shows(&event), of_shop, "{}", event.kind);
            assert_eq!(viewer.shows(&event), of_viewer, "{}", event.kind);
            assert!(EventSight::everything().shows(&event));
        }
    }
}
