//! Who this process is: its name, its number among its parent's children, its parent.
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;
use std::sync::{Arc, RwLock};

use crate::os::pidfd;

/// What a process knows of itself.
#[derive(Debug)]
pub(super) struct Me {
    pub(super) name: String,
    pub(super) daemon: bool,
    /// The numbers of its ancestors and its own, below the root: `2:1` is the first child of the root's second.
    pub(super) path: String,
    pub(super) parent: Option<Arc<Parent>>,
}

/// What a process knows of the one that started it.
#[derive(Debug)]
pub(super) struct Parent {
    pub(super) pid: u32,
    pub(super) name: String,
    pub(super) daemon: bool,
    /// `None` when it had ended before this process could look.
    pub(super) pidfd: Option<OwnedFd>,
}

/// What a child is told about itself, and about its parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Introduction {
    pub(super) name: String,
    pub(super) daemon: bool,
    pub(super) path: String,
    pub(super) parent_pid: u32,
    pub(super) parent_name: String,
    pub(super) parent_daemon: bool,
}

static ME: RwLock<Option<Arc<Me>>> = RwLock::new(None);

/// This process.
pub(super) fn me() -> Arc<Me> {
    if let Some(me) = &*ME.read().unwrap_or_else(|e| e.into_inner()) {
        return me.clone();
    }
    let mut me = ME.write().unwrap_or_else(|e| e.into_inner());
    let root = || {
        Arc::new(Me {
            name: "MainProcess".to_string(),
            daemon: false,
            path: String::new(),
            parent: None,
        })
    };
    me.get_or_insert_with(root).clone()
}

/// Tells a fresh child who it is.
pub(super) fn introduce(introduction: Introduction) {
    let Introduction {
        name,
        daemon,
        path,
        parent_pid,
        parent_name,
        parent_daemon,
    } = introduction;
    let pidfd = pidfd::open(parent_pid).ok();
    // Asked afterwards: while it is still the parent, the descriptor cannot mean another process.
    let pidfd = pidfd.filter(|_| std::os::unix::process::parent_id() == parent_pid);
    let parent = Parent {
        pid: parent_pid,
        name: parent_name,
        daemon: parent_daemon,
        pidfd,
    };
    let me = Me {
        name,
        daemon,
        path,
        parent: Some(Arc::new(parent)),
    };
    *ME.write().unwrap_or_else(|e| e.into_inner()) = Some(Arc::new(me));
}

impl Introduction {
    /// As text for the start variable.
    pub(super) fn to_text(&self) -> String {
        let Introduction {
            name,
            daemon,
            path,
            parent_pid,
            parent_name,
            parent_daemon,
        } = self;
        let daemons = [daemon, parent_daemon].map(|&daemon| u8::from(daemon));
        let (daemon, parent_daemon, len) = (daemons[0], daemons[1], name.len());
        format!("{daemon}/{path}/{parent_pid}/{parent_daemon}/{len}/{name}{parent_name}")
    }

    pub(super) fn from_text(text: &str) -> Option<Introduction> {
        let mut parts = text.splitn(6, '/');
        let mut next = || parts.next();
        let daemon = next()? == "1";
        let path = next()?.to_string();
        let parent_pid = next()?.parse().ok()?;
        let parent_daemon = next()? == "1";
        let len = next()?.parse().ok()?;
        let (name, parent_name) = next()?.split_at_checked(len)?;
        let (name, parent_name) = (name.to_string(), parent_name.to_string());
        Some(Introduction {
            name,
            daemon,
            path,
            parent_pid,
            parent_name,
            parent_daemon,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_introduction_is_read_as_it_was_written() {
        for name in ["", "a", "ä/1:2=\n", "////"] {
            let introduction = Introduction {
                name: name.to_string(),
                daemon: true,
                path: "1:22".to_string(),
                parent_pid: 77,
                parent_name: "/parent".to_string(),
                parent_daemon: false,
            };
            assert_eq!(
                Introduction::from_text(&introduction.to_text()),
                Some(introduction)
            );
        }
        for wrong in ["", "1/1/x/0/0/", "1/1/2/0/9/short", "1/1/2/0/1/ä"] {
            assert_eq!(Introduction::from_text(wrong), None);
        }
    }
}
