//! What a file system holds: item files, ordinary files and directories, by their paths.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::items::BOOTS_PATH;
use crate::domain::Sha256Digest;

/// What lies at a path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum NodeKind {
    /// An item file: read and written as a whole.
    Item,
    /// An ordinary file.
    File,
    /// A directory.
    Directory,
}

/// One node; a directory has no content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Its content.
    pub data: Vec<u8>,
}

/// A change of one path: what is there from now on, or that nothing is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The path.
    pub path: String,
    /// Its new node.
    pub node: Option<Node>,
}

/// Nodes by their paths. Directories need no node of their own to have something in them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Items(BTreeMap<String, Node>);

impl Items {
    /// A file's content.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&[u8]> {
        self.0.get(path).filter(|node| node.kind != NodeKind::Directory).map(|node| node.data.as_slice())
    }

    /// What lies at a path; directories are also there where only something below them is.
    #[must_use]
    pub fn kind(&self, path: &str) -> Option<NodeKind> {
        match self.0.get(path) {
            Some(node) => Some(node.kind),
            None if path == "/" => Some(NodeKind::Directory),
            None => {
                let below = format!("{path}/");
                let first = self.0.range(below.clone()..).next();
                first.is_some_and(|(path, _)| path.starts_with(&below)).then_some(NodeKind::Directory)
            }
        }
    }

    /// The names in a directory, ascending.
    #[must_use]
    pub fn names(&self, directory: &str) -> Vec<String> {
        let below = if directory == "/" { "/".to_owned() } else { format!("{directory}/") };
        let mut names: Vec<String> = Vec::new();
        for (path, _) in self.0.range(below.clone()..).take_while(|(path, _)| path.starts_with(&below)) {
            let name = path[below.len()..].split('/').next().unwrap_or_default();
            if !name.is_empty() && names.last().is_none_or(|last| last != name) {
                names.push(name.to_owned());
            }
        }
        // `a.b` lies between `a` and what is in `a`.
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Puts an item in place.
    pub fn set(&mut self, path: &str, data: Vec<u8>) {
        self.put(path, Node { kind: NodeKind::Item, data });
    }

    /// Puts a node in place.
    pub fn put(&mut self, path: &str, node: Node) {
        self.0.insert(path.to_owned(), node);
    }

    /// Takes a node away.
    pub fn remove(&mut self, path: &str) {
        self.0.remove(path);
    }

    /// Makes a change.
    pub fn change(&mut self, change: &Change) {
        match &change.node {
            Some(node) => self.put(&change.path, node.clone()),
            None => self.remove(&change.path),
        }
    }

    /// All files, ascending by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.nodes()
            .filter(|(_, node)| node.kind != NodeKind::Directory)
            .map(|(path, node)| (path, node.data.as_slice()))
    }

    /// All nodes, ascending by path.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// The nodes whose paths begin so, ascending.
    pub fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Node)> {
        let range = self.0.range(prefix.to_owned()..);
        range.map(|(path, node)| (path.as_str(), node)).take_while(move |(path, _)| path.starts_with(prefix))
    }

    /// How many nodes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A digest of everything but the count of boots: equal as long as nothing was lost or changed.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        let mut hasher = Sha256::new();
        for (path, node) in self.nodes().filter(|(path, _)| *path != BOOTS_PATH) {
            hasher.update([node.kind as u8]);
            hasher.update((path.len() as u64).to_le_bytes());
            hasher.update(path);
            hasher.update((node.data.len() as u64).to_le_bytes());
            hasher.update(&node.data);
        }
        Sha256Digest::finish(hasher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_there_through_what_is_in_them() {
        let mut items = Items::default();
        items.set("/a/b", vec![1]);
        items.set("/a.x", vec![2]);
        items.set("/a/c/d", vec![3]);
        items.put("/empty", Node { kind: NodeKind::Directory, data: Vec::new() });
        assert_eq!(items.names("/"), ["a", "a.x", "empty"]);
        assert_eq!(items.names("/a"), ["b", "c"]);
        assert!(items.names("/empty").is_empty());
        for (path, kind) in [
            ("/", Some(NodeKind::Directory)),
            ("/a", Some(NodeKind::Directory)),
            ("/a/b", Some(NodeKind::Item)),
            ("/a/c", Some(NodeKind::Directory)),
            ("/empty", Some(NodeKind::Directory)),
            ("/e", None),
            ("/a/", None),
        ] {
            assert_eq!(items.kind(path), kind, "{path}");
        }
        assert_eq!((items.get("/empty"), items.iter().count(), items.len()), (None, 3, 4));
    }
}
