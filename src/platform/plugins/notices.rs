//! What plugins are told of: one queue for each plugin, so that a slow one keeps nobody waiting.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::Plugin;
use crate::domain::{AppName, PluginName};
use crate::platform::Platform;
use crate::plugin::{Hook, Request};
use crate::support::{report, tasks};

/// Calls that wait for one plugin; further ones are dropped, counted and reported.
const MAX_QUEUE: usize = 256;

/// The queues of all plugins.
#[derive(Debug, Default)]
pub(super) struct Notices(Mutex<BTreeMap<PluginName, Queue>>);

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Notice>,
    /// Whether a task works on it.
    busy: bool,
}

#[derive(Debug)]
struct Notice {
    hook: Hook,
    request: Request,
}

impl Notices {
    fn with<T>(&self, name: &PluginName, work: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work(queues.entry(name.clone()).or_default())
    }

    /// The next call, or none, after which nobody works on the queue.
    fn next(&self, name: &PluginName) -> Option<Notice> {
        self.with(name, |queue| {
            let notice = queue.waiting.pop_front();
            queue.busy = notice.is_some();
            notice
        })
    }
}

impl Platform {
    /// Tells the plugins that have `hook`. Returns at once.
    pub(in crate::platform) fn notify(&self, hook: Hook, app: Option<&AppName>, data: Value) {
        for plugin in self.0.plugins.at(hook) {
            self.notify_one(&plugin, hook, app, &data);
        }
    }

    /// Tells one plugin, also one that is off: that is how it hears of it.
    pub(super) fn notify_one(
        &self,
        plugin: &Arc<Plugin>,
        hook: Hook,
        app: Option<&AppName>,
        data: &Value,
    ) {
        let Some(entry) = plugin.manifest().hooks.get(&hook) else { return };
        let name = plugin.name().clone();
        let request = match self.plugin_request(plugin, hook, app, data) {
            Ok(request) if request.has(&entry.needs) => request,
            Ok(_) => return,
            Err(error) => {
                let error = report(&error);
                tracing::error!(plugin = name.as_str(), %hook, error, "cannot tell a plugin");
                return;
            }
        };
        let notice = Notice { hook, request };
        let (full, begin) = self.0.plugins.notices.with(&name, |queue| {
            if queue.waiting.len() >= MAX_QUEUE {
                return (true, false);
            }
            queue.waiting.push_back(notice);
            (false, !std::mem::replace(&mut queue.busy, true))
        });
        if full {
            self.0.plugins.record(&name, |record| record.dropped += 1);
            tracing::warn!(plugin = name.as_str(), %hook, "a plugin is too slow; it is not told");
        }
        if begin {
            let (platform, plugin) = (self.clone(), Arc::clone(plugin));
            tasks::spawn("plugin", async move { platform.work_off(&plugin).await });
        }
    }

    async fn work_off(&self, plugin: &Arc<Plugin>) {
        while let Some(Notice { hook, request }) = self.0.plugins.notices.next(plugin.name()) {
            // It may have been updated, switched off or removed since.
            let now = self.find_plugin(plugin.name()).ok();
            let last_words = matches!(hook, Hook::Uninstall | Hook::Disable);
            let plugin = match &now {
                Some(now) if now.stored.enabled || last_words => now,
                None if last_words => plugin,
                _ => continue,
            };
            // What fails has been logged and recorded, and then what it said of routes before holds.
            if self.call_hook(plugin, hook, &request).await.is_ok() {
                self.told_of_apps(plugin, hook).await;
            }
        }
    }
}
