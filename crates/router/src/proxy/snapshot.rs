//! The routes in force, all at once.

use std::collections::HashMap;
use std::sync::Arc;

use tracing::warn;

use super::route::Workshop;
use super::{Proxy, Record, Route, Routes, Sources};

/// All routes at one moment. It is replaced as a whole.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) routes: Routes<Route>,
    /// Which routes take calls of gRPC services from their plain paths.
    pub(super) by_service: HashMap<Box<str>, Arc<Route>>,
    by_id: HashMap<Arc<str>, Arc<Route>>,
}

/// A record that is to be in force.
#[derive(Debug, Clone)]
pub struct Installed {
    /// Its id; of one from the configuration file, a name that no id of the store has.
    pub id: String,
    /// It.
    pub record: Record,
}

/// A record that can't be put into force; the others are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("route {path} can't be put into force: {reason}")]
pub struct Uninstallable {
    /// Its id.
    pub id: String,
    /// Its path.
    pub path: String,
    /// Why.
    pub reason: String,
}

impl Proxy {
    /// Puts these records into force, in place of those before. Routes whose record is
    /// the same go on with their state; requests under way end on the route they began
    /// with. Records that are not active are known but not served. One that can't be put into
    /// force leaves the route that its id had before, unless its path is taken.
    pub fn install(&self, records: Vec<Installed>, sources: &dyn Sources) -> Vec<Uninstallable> {
        let before = self.snapshot.load_full();
        let mut next = Snapshot::default();
        let mut problems = Vec::new();
        for Installed { id, record } in records {
            let workshop = Workshop {
                clock: self.clock,
                seed: self.draw(),
                threads: self.threads,
                sources,
            };
            let known = before.by_id.get(id.as_str());
            let (path, is_active) = (record.path.clone(), record.active);
            let refuse = |reason: String| Uninstallable {
                id: id.clone(),
                path: path.clone(),
                reason,
            };
            let (path, is_active, route) =
                match Route::compile(&id, record, known.map(|known| &**known), &workshop) {
                    Ok(route) => (path, is_active, Arc::new(route)),
                    Err(error) => {
                        problems.push(refuse(error.to_string()));
                        let Some(known) = known else {
                            continue;
                        };
                        let record = &known.record;
                        (record.path.clone(), record.active, Arc::clone(known))
                    }
                };
            if is_active && let Err(error) = next.routes.add(&path, Arc::clone(&route)) {
                problems.push(Uninstallable {
                    id,
                    path,
                    reason: error.to_string(),
                });
                continue;
            }
            for service in route.record.grpc_services.iter().filter(|_| is_active) {
                if next.by_service.contains_key(service.as_str()) {
                    warn!(route = %route.label, service, "another route takes these calls");
                    continue;
                }
                next.by_service
                    .insert(service.as_str().into(), Arc::clone(&route));
            }
            next.by_id.insert(Arc::clone(&route.id), route);
        }
        self.snapshot.store(Arc::new(next));
        problems
    }

    /// All routes that are known, in the order of their labels.
    pub fn routes(&self) -> Vec<Arc<Route>> {
        let snapshot = self.snapshot.load();
        let mut routes: Vec<_> = snapshot.by_id.values().cloned().collect();
        routes.sort_by(|one, other| (&one.label, &one.id).cmp(&(&other.label, &other.id)));
        routes
    }

    /// A route by the id of its record.
    pub fn route(&self, id: &str) -> Option<Arc<Route>> {
        self.snapshot.load().by_id.get(id).cloned()
    }
}
