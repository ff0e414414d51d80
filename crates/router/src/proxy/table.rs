//! Which route a path belongs to.
//!
//! The longest prefix that ends at a segment boundary wins, over the path as it was sent. What
//! need not be percent-encoded is compared decoded. A path that an upstream may read as another
//! one is refused: with dot segments anywhere, and with encoded slashes, backslashes or empty
//! segments where a longer route could have been meant. Otherwise a request could pass by the
//! rule of `/-/a/admin` under the rule of `/-/a`.

use std::sync::Arc;

use hashbrown::HashMap;

use super::record::comparable;

/// Routes by their paths; never changes.
#[derive(Debug, Clone)]
pub struct Routes<T> {
    /// The first is `/-`.
    nodes: Vec<Node<T>>,
    len: usize,
}

#[derive(Debug, Clone)]
struct Node<T> {
    below: HashMap<Box<str>, usize>,
    route: Option<Arc<T>>,
}

/// A route that was found.
#[derive(Debug)]
pub struct Found<'a, T> {
    /// It.
    pub route: &'a Arc<T>,
    /// What stands behind its prefix: empty, or from a slash on.
    pub rest: &'a str,
}

/// A path that can be read in more than one way (400).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("path is ambiguous")]
pub struct AmbiguousPath;

/// Another route has this path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("path is taken by another route")]
pub struct PathTaken;

impl<T> Default for Routes<T> {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default()],
            len: 0,
        }
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self {
            below: HashMap::new(),
            route: None,
        }
    }
}

impl<T> Routes<T> {
    /// Adds a route under a path in the form that a record keeps (`/-/…`).
    pub fn add(&mut self, path: &str, route: Arc<T>) -> Result<(), PathTaken> {
        let below = path.strip_prefix(ROOT).unwrap_or(path);
        let mut at = 0;
        for segment in below.split('/').filter(|segment| !segment.is_empty()) {
            let fresh = self.nodes.len();
            let Some(node) = self.nodes.get_mut(at) else {
                break;
            };
            at = *node.below.entry(Box::from(segment)).or_insert(fresh);
            if at == fresh {
                self.nodes.push(Node::default());
            }
        }
        match self.nodes.get_mut(at) {
            Some(node) if node.route.is_none() => {
                node.route = Some(route);
                self.len += 1;
                Ok(())
            }
            _ => Err(PathTaken),
        }
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The route of a request's path (without query), or `None`. Takes time in the length of the
    /// path, whatever the number of routes.
    pub fn find<'a>(&'a self, path: &'a str) -> Result<Option<Found<'a, T>>, AmbiguousPath> {
        let Some(below) = path
            .strip_prefix(ROOT)
            .filter(|below| below.starts_with('/'))
        else {
            return Ok(None);
        };
        if has_dot_segment(below) {
            return Err(AmbiguousPath);
        }
        let mut node = self.nodes.first();
        let mut found = None;
        let mut rest = below;
        while let Some(after) = rest.strip_prefix('/') {
            let Some(here) = node.filter(|node| !node.below.is_empty()) else {
                break;
            };
            let end = after.find('/').unwrap_or(after.len());
            let (segment, next) = after.split_at(end);
            if segment.is_empty() && next.is_empty() {
                break;
            }
            if segment.is_empty() || has_other_slash(segment) {
                return Err(AmbiguousPath);
            }
            let Some(index) = here.below.get(comparable(segment).as_ref()) else {
                break;
            };
            node = self.nodes.get(*index);
            rest = next;
            if let Some(route) = node.and_then(|node| node.route.as_ref()) {
                found = Some(Found { route, rest });
            }
        }
        Ok(found)
    }
}

/// A segment `.` or `..`, encoded or not, between slashes of any kind; with parameters too,
/// which some servers cut off before they look.
fn has_dot_segment(path: &str) -> bool {
    if !path.contains(['.', '%']) {
        return false;
    }
    let is_dots = |segment: &str| {
        let name = segment.split(';').next().unwrap_or_default();
        matches!(name, "." | "..")
    };
    // Without an encoded character this is the path itself.
    let decoded = comparable(path);
    decoded.split(['/', '\\']).any(is_dots)
}

/// What some take for a slash.
fn has_other_slash(segment: &str) -> bool {
    segment.contains('\\')
        || segment.split('%').skip(1).any(|code| {
            let code = code.as_bytes();
            code.starts_with(b"2f")
                || code.starts_with(b"2F")
                || code.starts_with(b"5c")
                || code.starts_with(b"5C")
        })
}

/// What all paths begin with.
const ROOT: &str = "/-";

#[cfg(test)]
mod tests;
