//! What an operation's answer is made of: any number of lines, then one result or one error.

use serde::{Deserialize, Serialize};

use super::Problem;

/// One line of an `application/x-ndjson` answer: `{"line":"…"}`, `{"result":…}`, `{"error":{…}}`.
///
/// A stream that ends without `result` or `error` was cut off: the outcome is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StreamItem<T> {
    /// A line of output, without its line feed.
    Line(String),
    /// It succeeded; nothing follows.
    Result(T),
    /// It failed; nothing follows.
    Error(Problem),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Kind, PushOutcome};

    fn check<T: Serialize>(item: &StreamItem<T>, expected: &str) {
        assert_eq!(serde_json::to_string(item).unwrap(), expected);
    }

    #[test]
    fn items_are_told_apart_by_their_only_key() {
        check::<()>(&StreamItem::Line("-----> Building".into()), r#"{"line":"-----> Building"}"#);
        check(&StreamItem::Result(()), r#"{"result":null}"#);
        let accepted = PushOutcome::Accepted { release: Some(crate::domain::ReleaseVersion(3)) };
        check(&StreamItem::Result(accepted), r#"{"result":{"outcome":"accepted","release":3}}"#);
        let problem = Problem::new(Kind::NotFound, 404, "app `shop` does not exist");
        let text = serde_json::to_string(&StreamItem::<()>::Error(problem.clone())).unwrap();
        let read: StreamItem<()> = serde_json::from_str(&text).unwrap();
        assert_eq!(read, StreamItem::Error(problem));
    }
}
