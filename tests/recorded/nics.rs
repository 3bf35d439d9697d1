//! The deal of NICs on recorded machines against all ways to deal them.

use std::path::{Path, PathBuf};

use crate::discovery::{read, rows, unpack};
use crate::topologies;

// For clippy helpers in such a module are tests too.
#[cfg(test)]
#[path = "../../topology/tests/machines/nics.rs"]
mod judge;

#[test]
fn no_deal_of_nics_is_better_on_any_recorded_machine() {
    let folder = topologies();
    let (mut looked, mut with_several) = (0, 0);
    let mut look = |name: &str, path: &Path| {
        // Those that are no machine are for other tests to refuse.
        let Ok(machine) = read(path) else {
            return;
        };
        judge::judge_all_of(name, &machine);
        looked += 1;
        with_several += usize::from(machine.gpus.len() > 1 && machine.nics.len() > 1);
    };
    for kind in ["hwloc-xml", "nccl-xml"] {
        for (file, _) in rows(&folder, kind).keys() {
            look(file, &folder.join(file));
        }
    }
    for (file, root) in rows(&folder, "sysfs-tar")
        .keys()
        .filter(|(_, root)| !root.is_empty())
    {
        let tree = unpack(&folder.join(file));
        look(file, &tree.path().join(root));
    }
    let entries = std::fs::read_dir(folder.join("machines")).unwrap();
    let made_up: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    for path in made_up
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "xz"))
    {
        let tree = unpack(path);
        look(&path.display().to_string(), tree.path());
    }
    assert!(
        looked >= 70 && with_several >= 30,
        "{looked} machines, {with_several} with several GPUs and NICs"
    );
}
