//! The patterns that somebody here is subscribed to, by their tokens.
//!
//! A publication walks down the tree by the tokens of its channel, so what it costs depends
//! on how many patterns share its beginning, not on how many there are.

use hashbrown::HashMap;
use protocol::channel::Channel;

/// Names of patterns; each is the pattern as it is written.
#[derive(Debug, Default)]
pub(super) struct Tree {
    literal: HashMap<Box<str>, Tree>,
    any: Option<Box<Tree>>,
    /// The pattern that ends here.
    here: Option<Channel>,
    /// The pattern that ends here with `>`.
    rest: Option<Channel>,
}

impl Tree {
    pub(super) fn insert(&mut self, name: &Channel) {
        let mut node = self;
        for token in name.split('.') {
            node = match token {
                ">" => return node.rest = Some(name.clone()),
                "*" => node.any.get_or_insert_default(),
                literal => node.literal.entry_ref(literal).or_default(),
            };
        }
        node.here = Some(name.clone());
    }

    /// Removes a pattern, and the nodes that stand empty then.
    pub(super) fn remove(&mut self, name: &str) {
        self.remove_below(Some(name));
    }

    /// Appends the patterns that cover a channel, as [`Pattern::covers_text`] has it.
    ///
    /// [`Pattern::covers_text`]: protocol::subject::Pattern::covers_text
    pub(super) fn covering(&self, channel: &str, found: &mut Vec<Channel>) {
        self.collect(Some(channel), found);
    }

    fn remove_below(&mut self, path: Option<&str>) {
        let Some(path) = path else {
            self.here = None;
            return;
        };
        let (token, below) = first_token(path);
        match token {
            ">" => self.rest = None,
            "*" => {
                if let Some(node) = &mut self.any {
                    node.remove_below(below);
                }
                self.any = self.any.take().filter(|node| !node.is_empty());
            }
            literal => {
                let Some(node) = self.literal.get_mut(literal) else {
                    return;
                };
                node.remove_below(below);
                if node.is_empty() {
                    self.literal.remove(literal);
                    super::give_back(&mut self.literal);
                }
            }
        }
    }

    fn collect(&self, channel: Option<&str>, found: &mut Vec<Channel>) {
        let Some(channel) = channel else {
            found.extend(self.here.clone());
            return;
        };
        found.extend(self.rest.clone());
        let (token, below) = first_token(channel);
        if let Some(node) = self.literal.get(token) {
            node.collect(below, found);
        }
        if let Some(node) = &self.any {
            node.collect(below, found);
        }
    }

    fn is_empty(&self) -> bool {
        self.literal.is_empty() && self.any.is_none() && self.here.is_none() && self.rest.is_none()
    }
}

fn first_token(path: &str) -> (&str, Option<&str>) {
    match path.split_once('.') {
        Some((token, below)) => (token, Some(below)),
        None => (path, None),
    }
}

#[cfg(test)]
mod tests {
    use protocol::subject::Pattern;

    use super::*;

    /// All texts of up to four tokens out of these.
    fn texts(tokens: &[&str]) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut last: Vec<String> = tokens.iter().map(|&token| token.to_owned()).collect();
        for _ in 0..3 {
            all.extend(last.iter().cloned());
            let longer = |text: &String| {
                let text = text.clone();
                tokens.iter().map(move |token| format!("{text}.{token}"))
            };
            last = last.iter().flat_map(longer).collect();
        }
        all.extend(last);
        all
    }

    #[test]
    fn what_covers_a_channel_is_what_the_patterns_say() {
        let patterns: Vec<Pattern> = texts(&["a", "b", "*", ">"])
            .iter()
            .filter_map(|text| Pattern::new(text).ok())
            .collect();
        let channels = texts(&["a", "b", "c", "", "*", ">"]);
        let mut tree = Tree::default();
        for pattern in &patterns {
            tree.insert(&Channel::new(pattern.as_str()));
        }
        // All of them, then every other one.
        for step in [1, 2] {
            for channel in &channels {
                let mut found = Vec::new();
                tree.covering(channel, &mut found);
                found.sort();
                let covering = patterns.iter().step_by(step);
                let mut wanted: Vec<Channel> = covering
                    .filter(|pattern| pattern.covers_text(channel))
                    .map(|pattern| Channel::new(pattern.as_str()))
                    .collect();
                wanted.sort();
                assert_eq!(found, wanted, "{channel:?}");
            }
            for pattern in patterns.iter().skip(1).step_by(2) {
                tree.remove(pattern.as_str());
            }
        }
        for pattern in &patterns {
            tree.remove(pattern.as_str());
        }
        assert!(tree.is_empty(), "{tree:?}");
    }
}
