//! Services and which apps are linked to them.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Error, Result, Store, failed, from_json, taken, to_json};
use crate::domain::{AppId, PluginName, Service, ServiceId, ServiceLink, ServiceName};

/// The most services on one machine: the number of ranges of 65,536 user ids set aside for them.
const MAX_SERVICES: u32 = 1000;

impl Store {
    /// Keeps a new service under the smallest unused number, which replaces `service.id`.
    ///
    /// # Errors
    /// [`Error::Exists`] if the type has one of that name, [`Error::Full`] at the limit.
    pub fn add_service(&self, service: &Service) -> Result<Service> {
        let connection = self.lock();
        let id: u32 = connection
            .query_row(
                "select min(candidate) from
                 (select 1 as candidate union select id + 1 from services)
                 where candidate not in (select id from services)",
                [],
                |row| row.get(0),
            )
            .map_err(failed("find a free service id"))?;
        if id > MAX_SERVICES {
            return Err(Error::Full { what: "services", limit: MAX_SERVICES });
        }
        let service = Service { id: ServiceId(id), ..service.clone() };
        connection
            .execute(
                "insert into services (id, kind, name, body) values (?, ?, ?, ?)",
                params![id, service.kind.as_str(), service.name.as_str(), to_json(&service)],
            )
            .map_err(taken("service", service.name.as_str(), "insert service"))?;
        Ok(service)
    }

    /// Replaces what is kept of a service.
    pub fn set_service(&self, service: &Service) -> Result<()> {
        self.lock()
            .execute(
                "update services set body = ?2 where id = ?1",
                params![service.id.0, to_json(service)],
            )
            .map_err(failed("write service"))?;
        Ok(())
    }

    /// The service of that type and name.
    pub fn service(&self, kind: &PluginName, name: &ServiceName) -> Result<Option<Service>> {
        self.lock()
            .query_row(
                "select body from services where kind = ? and name = ?",
                params![kind.as_str(), name.as_str()],
                |row| row.get::<_, String>(0),
            )
            .optional()
            .map_err(failed("read service"))?
            .map(|body| from_json("service", &body))
            .transpose()
    }

    /// The service of that number.
    pub fn service_by_id(&self, id: ServiceId) -> Result<Option<Service>> {
        self.lock()
            .query_row("select body from services where id = ?", [id.0], |row| {
                row.get::<_, String>(0)
            })
            .optional()
            .map_err(failed("read service"))?
            .map(|body| from_json("service", &body))
            .transpose()
    }

    /// All services by type and name.
    pub fn services(&self) -> Result<Vec<Service>> {
        let connection = self.lock();
        let bodies = texts(&connection, "select body from services order by kind, name")?;
        bodies.iter().map(|body| from_json("service", body)).collect()
    }

    /// Forgets a service and its links.
    pub fn remove_service(&self, id: ServiceId) -> Result<()> {
        self.lock()
            .execute("delete from services where id = ?", [id.0])
            .map_err(failed("remove service"))?;
        Ok(())
    }

    /// Links an app to a service.
    ///
    /// # Errors
    /// [`Error::Exists`] if it is linked already.
    pub fn add_service_link(&self, link: &ServiceLink) -> Result<()> {
        self.lock()
            .execute(
                "insert into service_links (service, app, body) values (?, ?, ?)",
                params![link.service.0, link.app.0, to_json(link)],
            )
            .map_err(taken("link to service", &link.service.to_string(), "insert link"))?;
        Ok(())
    }

    /// Removes a link; says whether it was there.
    pub fn remove_service_link(&self, service: ServiceId, app: AppId) -> Result<bool> {
        self.lock()
            .execute(
                "delete from service_links where service = ? and app = ?",
                params![service.0, app.0],
            )
            .map(|count| count > 0)
            .map_err(failed("remove link"))
    }

    /// All links, by service and app.
    pub fn service_links(&self) -> Result<Vec<ServiceLink>> {
        let connection = self.lock();
        let bodies = texts(&connection, "select body from service_links order by service, app")?;
        bodies.iter().map(|body| from_json("service link", body)).collect()
    }
}

fn texts(connection: &Connection, sql: &str) -> Result<Vec<String>> {
    let mut statement = connection.prepare_cached(sql).map_err(failed("list services"))?;
    let rows = statement.query_map([], |row| row.get(0)).map_err(failed("list services"))?;
    rows.map(|row| row.map_err(failed("list services"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Secret, ServiceSettings, ServiceState, Timestamp};
    use crate::store::NewApp;

    fn new(name: &str) -> Service {
        Service {
            id: ServiceId(0),
            kind: "postgres".parse().unwrap(),
            name: name.parse().unwrap(),
            created_at: Timestamp(1),
            state: ServiceState::Running,
            image: "sha256:00".into(),
            password: Secret::new("pw"),
            v4: "10.0.0.8".parse().unwrap(),
            v6: "fd00::8".parse().unwrap(),
            settings: ServiceSettings::default(),
            scratch: false,
        }
    }

    #[test]
    fn services_keep_their_numbers_and_links_go_with_either_end() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("staithe.db")).unwrap();
        let first = store.add_service(&new("a")).unwrap();
        let second = store.add_service(&new("b")).unwrap();
        assert_eq!((first.id, second.id), (ServiceId(1), ServiceId(2)));
        assert!(matches!(store.add_service(&new("a")), Err(Error::Exists { .. })));
        assert_eq!(store.service(&first.kind, &first.name).unwrap(), Some(first.clone()));

        let name = "shop".parse().unwrap();
        let app = NewApp { name: &name, stack: "debian-13", created_at: Timestamp(1) };
        let app = store.create_app(&app).unwrap();
        let link = |service: &Service| ServiceLink {
            service: service.id,
            app: app.id,
            variable: "DATABASE_URL".parse().unwrap(),
            query: None,
        };
        store.add_service_link(&link(&first)).unwrap();
        store.add_service_link(&link(&second)).unwrap();
        assert!(matches!(store.add_service_link(&link(&first)), Err(Error::Exists { .. })));
        store.remove_service(first.id).unwrap();
        assert_eq!(store.service_links().unwrap(), [link(&second)]);
        assert_eq!(store.add_service(&new("c")).unwrap().id, ServiceId(1));
        store.remove_app(app.id).unwrap();
        assert_eq!(store.service_links().unwrap(), []);
    }
}
