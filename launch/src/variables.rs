//! The variables of a process or a task, wherever they are kept.

use std::cell::RefCell;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use ffi::spank::Spank;

/// Variables of a process.
pub trait Environment {
    /// The value of a variable, what is not UTF-8 of it as U+FFFD; none where it is not set.
    fn get(&self, name: &str) -> Option<String>;

    /// Whether a variable is set.
    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A variable that holds a path, in whatever encoding; none where it is not set.
    fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }
}

/// The environment of a task that has not begun.
pub trait TaskEnvironment: Environment {
    /// Sets a variable; false where the launcher refuses.
    fn set(&self, name: &str, value: &str) -> bool;
    /// The same for one that is known not to be set.
    fn add(&self, name: &str, value: &str) -> bool {
        self.set(name, value)
    }
    /// Removes a variable.
    fn remove(&self, name: &str);
}

/// The calling process's own.
#[derive(Debug, Clone, Copy)]
pub struct OwnEnvironment;

impl Environment for OwnEnvironment {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        std::env::var_os(name).map(PathBuf::from)
    }
}

impl Environment for Spank<'_> {
    fn get(&self, name: &str) -> Option<String> {
        self.env(name)
    }

    fn has(&self, name: &str) -> bool {
        self.has_env(name)
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.env_bytes(name)
            .map(|bytes| PathBuf::from(OsString::from_vec(bytes)))
    }
}

impl TaskEnvironment for Spank<'_> {
    fn set(&self, name: &str, value: &str) -> bool {
        self.set_env(name, value).is_ok()
    }

    fn remove(&self, name: &str) {
        // One that cannot be removed stays; there is no one to tell.
        let _ = self.remove_env(name);
    }
}

/// A task's environment that remembers what each change replaced, so that all can be taken back.
#[derive(Debug)]
pub struct Recorded<'e, E> {
    environment: &'e E,
    /// What was there before each change, the first change first.
    replaced: RefCell<Vec<(String, Option<String>)>>,
}

impl<'e, E: TaskEnvironment> Recorded<'e, E> {
    /// Of an environment that nothing was changed in.
    pub fn new(environment: &'e E) -> Self {
        Self {
            environment,
            replaced: RefCell::new(Vec::with_capacity(16)),
        }
    }

    /// Takes all changes back, the last first.
    pub fn take_back(&self) {
        for (name, value) in self.replaced.take().into_iter().rev() {
            match value {
                Some(value) => drop(self.environment.set(&name, &value)),
                None => self.environment.remove(&name),
            }
        }
    }

    fn record(&self, name: &str, before: Option<String>) {
        self.replaced.borrow_mut().push((name.to_owned(), before));
    }
}

impl<E: TaskEnvironment> Environment for Recorded<'_, E> {
    fn get(&self, name: &str) -> Option<String> {
        self.environment.get(name)
    }

    fn has(&self, name: &str) -> bool {
        self.environment.has(name)
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.environment.path(name)
    }
}

impl<E: TaskEnvironment> TaskEnvironment for Recorded<'_, E> {
    fn set(&self, name: &str, value: &str) -> bool {
        self.record(name, self.environment.get(name));
        self.environment.set(name, value)
    }

    fn add(&self, name: &str, value: &str) -> bool {
        self.record(name, None);
        self.environment.set(name, value)
    }

    fn remove(&self, name: &str) {
        self.record(name, self.environment.get(name));
        self.environment.remove(name);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// An environment for tests.
    #[derive(Debug, Default)]
    pub(crate) struct Variables(pub(crate) RefCell<BTreeMap<String, String>>);

    impl Variables {
        pub(crate) fn of(variables: &[(&str, &str)]) -> Self {
            let variables = variables.iter();
            Self(RefCell::new(
                variables
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect(),
            ))
        }
    }

    impl Environment for Variables {
        fn get(&self, name: &str) -> Option<String> {
            self.0.borrow().get(name).cloned()
        }
    }

    impl TaskEnvironment for Variables {
        fn set(&self, name: &str, value: &str) -> bool {
            self.0
                .borrow_mut()
                .insert(name.to_owned(), value.to_owned());
            true
        }

        fn remove(&self, name: &str) {
            self.0.borrow_mut().remove(name);
        }
    }
}
