//! Tokens: whose they are, what they are narrowed to, and the hashes of their secrets.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Result, Store, failed, from_json, from_text, taken, to_json};
use crate::domain::access::Scope;
use crate::domain::{AppName, Timestamp, TokenId, UserName};

/// A token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// What it is called.
    pub id: TokenId,
    /// Whose it is.
    pub user: UserName,
    /// The token it was made with, which takes it along when it goes.
    pub parent: Option<TokenId>,
    /// What it is for, in its owner's words; unique among theirs.
    pub name: String,
    /// SHA-256 of its secret.
    pub hash: Vec<u8>,
    /// What it is narrowed to.
    pub scope: Scope,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub used_at: Option<Timestamp>,
    /// From which address it was last used.
    pub used_from: Option<String>,
}

const SELECT: &str = "select tokens.id, users.name, parent, tokens.name, hash, narrowed, verbs,
    tokens.created_at, expires_at, used_at, used_from
    from tokens join users on users.id = tokens.user";

impl Store {
    /// Keeps a new token. The apps of its scope are kept by their identity: renamed, they stay in
    /// it, and another app that gets the name later does not get in.
    ///
    /// # Errors
    /// [`super::Error::Exists`] if the user has one of that name.
    pub fn add_token(&self, token: &StoredToken) -> Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(failed("insert token"))?;
        let (apps, verbs) = (&token.scope.apps, token.scope.verbs.as_ref().map(to_json));
        transaction
            .execute(
                "insert into tokens (id, user, parent, name, hash, narrowed, verbs, created_at,
                    expires_at)
                 select ?1, id, ?3, ?4, ?5, ?6, ?7, ?8, ?9 from users where name = ?2",
                params![
                    token.id.as_str(),
                    token.user.as_str(),
                    token.parent.as_ref().map(TokenId::as_str),
                    token.name,
                    token.hash,
                    apps.is_some(),
                    verbs,
                    token.created_at.0,
                    token.expires_at.map(|at| at.0),
                ],
            )
            .map_err(taken("token", &token.name, "insert token"))?;
        for app in apps.iter().flatten() {
            transaction
                .execute(
                    "insert or ignore into token_apps (token, app)
                     select ?, id from apps where name = ?",
                    params![token.id.as_str(), app.as_str()],
                )
                .map_err(failed("insert token"))?;
        }
        transaction.commit().map_err(failed("insert token"))
    }

    /// The token of that id, unless its user is disabled.
    pub fn token(&self, id: &TokenId) -> Result<Option<StoredToken>> {
        let connection = self.lock();
        let query = format!("{SELECT} where tokens.id = ? and not users.disabled");
        let columns = connection
            .prepare_cached(&query)
            .and_then(|mut select| select.query_row([id.as_str()], columns).optional())
            .map_err(failed("read token"))?;
        columns.map(|columns| token_from(&connection, columns)).transpose()
    }

    /// The tokens, of one user if given, by user and name.
    pub fn tokens(&self, user: Option<&UserName>) -> Result<Vec<StoredToken>> {
        let connection = self.lock();
        let query = format!(
            "{SELECT} where ?1 is null or users.name = ?1 order by users.name, tokens.name"
        );
        let mut statement = connection.prepare_cached(&query).map_err(failed("list tokens"))?;
        let rows = statement
            .query_map([user.map(UserName::as_str)], columns)
            .map_err(failed("list tokens"))?;
        let rows = rows.collect::<rusqlite::Result<Vec<_>>>().map_err(failed("list tokens"))?;
        rows.into_iter().map(|columns| token_from(&connection, columns)).collect()
    }

    /// Remembers that a token was used.
    pub fn use_token(&self, id: &TokenId, at: Timestamp, from: Option<&str>) -> Result<()> {
        self.lock()
            .execute(
                "update tokens set used_at = ?2, used_from = ?3 where id = ?1",
                params![id.as_str(), at.0, from],
            )
            .map(drop)
            .map_err(failed("update token"))
    }

    /// Removes a token and those that were made with it; says whether there was one.
    pub fn remove_token(&self, id: &TokenId) -> Result<bool> {
        self.lock()
            .execute("delete from tokens where id = ?", [id.as_str()])
            .map(|count| count > 0)
            .map_err(failed("remove token"))
    }

    /// Removes tokens that ended before `at`.
    pub fn remove_expired_tokens(&self, at: Timestamp) -> Result<usize> {
        self.lock()
            .execute("delete from tokens where expires_at < ?", [at.0])
            .map_err(failed("remove expired tokens"))
    }
}

struct Columns {
    id: String,
    user: String,
    parent: Option<String>,
    name: String,
    hash: Vec<u8>,
    narrowed: bool,
    verbs: Option<String>,
    created_at: i64,
    expires_at: Option<i64>,
    used_at: Option<i64>,
    used_from: Option<String>,
}

fn columns(row: &Row<'_>) -> rusqlite::Result<Columns> {
    Ok(Columns {
        id: row.get(0)?,
        user: row.get(1)?,
        parent: row.get(2)?,
        name: row.get(3)?,
        hash: row.get(4)?,
        narrowed: row.get(5)?,
        verbs: row.get(6)?,
        created_at: row.get(7)?,
        expires_at: row.get(8)?,
        used_at: row.get(9)?,
        used_from: row.get(10)?,
    })
}

fn token_from(connection: &Connection, columns: Columns) -> Result<StoredToken> {
    // A token whose apps are all gone is narrowed to none, not free.
    let apps = columns.narrowed.then(|| apps_of(connection, &columns.id)).transpose()?;
    let verbs = columns.verbs.map(|verbs| from_json("scope", &verbs)).transpose()?;
    let id: TokenId = from_text("token id", columns.id)?;
    Ok(StoredToken {
        scope: Scope { apps, verbs, token: Some(id.clone()) },
        id,
        user: from_text("user name", columns.user)?,
        parent: columns.parent.map(|id| from_text("token id", id)).transpose()?,
        name: columns.name,
        hash: columns.hash,
        created_at: Timestamp(columns.created_at),
        expires_at: columns.expires_at.map(Timestamp),
        used_at: columns.used_at.map(Timestamp),
        used_from: columns.used_from,
    })
}

fn apps_of(connection: &Connection, token: &str) -> Result<Vec<AppName>> {
    let mut statement = connection
        .prepare_cached(
            "select apps.name from token_apps join apps on apps.id = token_apps.app
             where token = ? order by apps.name",
        )
        .map_err(failed("list apps of a token"))?;
    let rows = statement
        .query_map([token], |row| row.get::<_, String>(0))
        .map_err(failed("list apps of a token"))?;
    rows.map(|row| from_text("app name", row.map_err(failed("list apps of a token"))?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Token;
    use crate::store::NewApp;

    fn token(id: u8, parent: Option<&StoredToken>, apps: Option<&[&str]>) -> StoredToken {
        let bits = Token::of([id; 6], [id; 32]);
        let scope = Scope {
            apps: apps.map(|apps| apps.iter().map(|app| app.parse().unwrap()).collect()),
            verbs: Some(vec!["ps:*".into()]),
            token: Some(bits.id().clone()),
        };
        StoredToken {
            id: bits.id().clone(),
            user: "alice".parse().unwrap(),
            parent: parent.map(|token| token.id.clone()),
            name: format!("t{id}"),
            hash: bits.hash().to_vec(),
            scope,
            created_at: Timestamp(1),
            expires_at: None,
            used_at: None,
            used_from: None,
        }
    }

    #[test]
    fn a_token_keeps_its_scope_through_renames_and_never_widens() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("staithe.db")).unwrap();
        let alice = "alice".parse().unwrap();
        store.add_user(&alice, None, Timestamp(1)).unwrap();
        let create = |name: &str| {
            let name = name.parse().unwrap();
            let new = NewApp { name: &name, stack: "debian-13", created_at: Timestamp(1) };
            store.create_app(&new).unwrap()
        };
        let shop = create("shop");
        let first = token(1, None, Some(&["shop"]));
        store.add_token(&first).unwrap();
        assert_eq!(store.token(&first.id).unwrap(), Some(first.clone()));
        assert!(
            store.add_token(&StoredToken { id: token(2, None, None).id, ..first.clone() }).is_err()
        );

        store.rename_app(shop.id, &"store".parse().unwrap()).unwrap();
        let apps = |token: &StoredToken| store.token(&token.id).unwrap().unwrap().scope.apps;
        assert_eq!(apps(&first), Some(vec!["store".parse().unwrap()]));
        store.remove_app(shop.id).unwrap();
        create("shop");
        assert_eq!(apps(&first), Some(Vec::new()));

        let second = token(2, Some(&first), None);
        store.add_token(&second).unwrap();
        assert_eq!(apps(&second), None);
        store.set_user_disabled(&alice, true).unwrap();
        assert_eq!(store.token(&second.id).unwrap(), None);
        store.set_user_disabled(&alice, false).unwrap();
        assert!(store.remove_token(&first.id).unwrap());
        assert_eq!(store.tokens(None).unwrap(), []);

        store.add_token(&token(3, None, None)).unwrap();
        assert!(store.remove_user(&alice).unwrap());
        assert_eq!(store.tokens(None).unwrap(), []);
    }
}
