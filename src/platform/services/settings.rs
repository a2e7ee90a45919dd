//! What may be set of a service: its quotas, and what its type offers.

use super::ServiceType;
use super::verbs::check_memory;
use crate::container::Limits;
use crate::domain::{Actor, Bytes, PluginName, Service, ServiceName};
use crate::platform::{Error, Kind, Platform, Result};
use crate::plugin::Scope;

/// The longest value of a setting.
const MAX_VALUE: usize = 4096;

impl Platform {
    /// Sets or, without a value, clears a setting: `memory`, `cpu`, `size`, or one of the type's.
    /// Quotas take effect at once, the type's own with the next restart.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for another key or value.
    pub async fn set_service(
        &self,
        actor: &Actor,
        kind: &PluginName,
        name: &ServiceName,
        key: &str,
        value: Option<&str>,
    ) -> Result<()> {
        let id = self.find_service(kind, name)?.id;
        let _lane = self.0.services.lane(id).await;
        let mut service = self.find_service(kind, name)?;
        let about = self.service_type(kind)?;
        match key {
            "memory" => {
                let memory = value.map(str::parse).transpose()?;
                check_memory(memory)?;
                service.settings.memory = memory;
            }
            "cpu" => service.settings.cpu = value.map(str::parse).transpose()?,
            "size" => {
                let size: Bytes = value
                    .ok_or_else(|| Error::new(Kind::Invalid, "a size can only be made larger"))?
                    .parse()?;
                let volume = self.find_volume(&Self::service_volume(&service)?)?;
                self.grow_volume(&volume, size).await?;
                service.settings.size = Some(size);
            }
            key => set_option(&mut service, &about, key, value)?,
        }
        if matches!(key, "memory" | "cpu")
            && let Some(running) = self.service_alive(id)
        {
            let limits = Self::service_limits(&service, &about);
            self.runtime.set_limits(&running.container, &limits, &Limits::default()).await?;
        }
        self.store.set_service(&service)?;
        let what = value.map_or("its default", |_| "another value");
        let message = format!("{}: `{key}` set to {what}", service.title());
        self.note_named(None, "service.set", &message, actor);
        Ok(())
    }
}

fn set_option(
    service: &mut Service,
    about: &ServiceType,
    key: &str,
    value: Option<&str>,
) -> Result<()> {
    let offered: Vec<&str> = about
        .manifest()
        .settings
        .iter()
        .filter(|setting| setting.scope == Scope::Service)
        .map(|setting| setting.key.as_str())
        .collect();
    if !offered.contains(&key) {
        let message = format!("{} has no setting `{}`", service.title(), key.escape_default());
        let known = [&["memory", "cpu", "size"], offered.as_slice()].concat().join(", ");
        return Err(Error::new(Kind::Invalid, message).hint(format!("there are: {known}")));
    }
    match value {
        None => drop(service.settings.options.remove(key)),
        // It becomes part of configuration files, one line each.
        Some(value) if value.len() > MAX_VALUE || value.chars().any(char::is_control) => {
            let message = format!("the value of `{key}` must be one line of at most 4096 bytes");
            return Err(Error::new(Kind::Invalid, message));
        }
        Some(value) => drop(service.settings.options.insert(key.into(), value.into())),
    }
    Ok(())
}
