//! No files of a crate use each other in a circle.
//!
//! Read as text: `use` lines and paths that begin with `crate` or `super`, followed through `pub use` to the file that
//! defines the name.  What a file takes from the module that it is a part of is no arrow.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::architecture::crates;

/// A path of modules and names, from the crate's root.
type Names = Vec<String>;

#[derive(Debug, Default)]
struct File {
    /// What it defines.
    defines: BTreeSet<String>,
    /// What it names of others, as written.
    uses: Vec<Names>,
    /// The last name of each `use`, and the whole of it.
    imports: BTreeMap<String, Names>,
}

type Modules = BTreeMap<Names, File>;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            if name != "tests" {
                sources(&path, found);
            }
        } else if name.ends_with(".rs") && name != "tests.rs" {
            found.push(path);
        }
    }
}

/// `a/b.rs` and `a/b/mod.rs` are `a::b`.
fn module_of(source: &Path) -> Names {
    let text = source.with_extension("");
    let mut names: Names = text
        .iter()
        .map(|name| name.to_str().unwrap().to_owned())
        .collect();
    names.pop_if(|last| matches!(last.as_str(), "mod" | "lib" | "main"));
    names
}

/// The paths of a `use`: one for each name in its braces.
fn leaves(tree: &str) -> Vec<Names> {
    let Some((before, inside)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap();
        return vec![
            path.split("::")
                .map(|name| name.trim().to_owned())
                .collect(),
        ];
    };
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in inside.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        match c {
            ',' if depth == 0 => parts.push(String::new()),
            // The brace that closes the whole.
            '}' if depth < 0 => {}
            _ => parts.last_mut().unwrap().push(c),
        }
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    parts
        .flat_map(|part| leaves(&format!("{}{}", before.trim(), part.trim())))
        .collect()
}

/// The name that a line defines.
fn defined(line: &str) -> Option<String> {
    let mut words = line.split_whitespace().peekable();
    while words
        .next_if(|word| {
            word.starts_with("pub") || matches!(*word, "unsafe" | "async" | "extern" | "\"C\"")
        })
        .is_some()
    {}
    let is_const_fn = |words: &mut std::iter::Peekable<std::str::SplitWhitespace<'_>>| {
        words.next_if_eq(&"const").is_some() && words.peek() == Some(&"fn")
    };
    let mut ahead = words.clone();
    if is_const_fn(&mut ahead) {
        words = ahead;
    }
    let kinds = [
        "struct",
        "enum",
        "trait",
        "fn",
        "type",
        "const",
        "static",
        "union",
        "macro_rules!",
    ];
    words.next_if(|word| kinds.contains(word))?;
    let name = words.next()?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_');
    Some(name[..end.unwrap_or(name.len())].to_owned())
}

/// The paths within code that begin with `crate` or `super`.
fn written_out(code: &str) -> Vec<Names> {
    let starts = code
        .match_indices("crate::")
        .chain(code.match_indices("super::"));
    let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    starts
        .filter(|(at, _)| !code[..*at].ends_with(is_name))
        .map(|(at, _)| {
            let path = &code[at..];
            let end = path.find(|c| !is_name(c)).unwrap_or(path.len());
            let names = path[..end].split("::").filter(|name| !name.is_empty());
            names.map(str::to_owned).collect()
        })
        .collect()
}

fn read(source: &Path) -> File {
    let text = fs::read_to_string(source).unwrap();
    // Tests stand at the end.
    let own = text.split("#[cfg(test)]\n").next().unwrap();
    let lines = own
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let (mut file, mut rest) = (File::default(), String::new());
    let mut begun: Option<String> = None;
    for line in lines {
        let bare = line.trim_start();
        let after_pub = bare.strip_prefix("pub").map_or(bare, |after| {
            let after = after.strip_prefix('(').and_then(|of| of.split_once(')'));
            after.map_or(&bare[3..], |(_, after)| after).trim_start()
        });
        if begun.is_none() && after_pub.starts_with("use ") {
            begun = Some(String::new());
        }
        let Some(tree) = &mut begun else {
            file.defines.extend(defined(line));
            rest += line;
            rest.push('\n');
            continue;
        };
        tree.push_str(if tree.is_empty() {
            &after_pub[4..]
        } else {
            bare
        });
        if let Some(whole) = tree.strip_suffix(';') {
            for path in leaves(whole) {
                let name = path.last().unwrap().clone();
                file.imports.insert(name, path.clone());
                file.uses.push(path);
            }
            begun = None;
        }
    }
    file.uses.extend(written_out(&rest));
    file
}

/// A path from the crate's root; none where it is of another crate.
fn absolute(modules: &Modules, own: &[String], path: &[String]) -> Option<Names> {
    let mut names = path.iter().peekable();
    let mut from = match names.peek()?.as_str() {
        "crate" => Vec::new(),
        "self" | "super" => own.to_vec(),
        first => {
            let child = [own, &[first.to_owned()]].concat();
            return modules.contains_key(&child).then(|| [own, path].concat());
        }
    };
    while let Some(step) = names.next_if(|name| matches!(name.as_str(), "crate" | "self" | "super"))
    {
        if step == "super" {
            from.pop();
        }
    }
    from.extend(names.cloned());
    Some(from)
}

/// The module that defines what `path` names; none where that is not of this crate.
fn resolve(modules: &Modules, path: &[String], depth: u32) -> Option<Names> {
    let length = (0..=path.len()).rev();
    let module = length
        .map(|length| &path[..length])
        .find(|names| modules.contains_key(*names))?;
    let file = &modules[module];
    let Some(name) = path.get(module.len()) else {
        return Some(module.to_vec());
    };
    let import = file
        .imports
        .get(name)
        .filter(|_| !file.defines.contains(name));
    let Some(import) = import.filter(|_| depth < 10) else {
        return Some(module.to_vec());
    };
    let mut to = absolute(modules, module, import)?;
    to.extend_from_slice(&path[module.len() + 1..]);
    resolve(modules, &to, depth + 1)
}

fn arrows(modules: &Modules) -> BTreeMap<&Names, BTreeSet<Names>> {
    let of = |own: &Names, file: &File| -> BTreeSet<Names> {
        let paths = file.uses.iter();
        paths
            .filter_map(|path| resolve(modules, &absolute(modules, own, path)?, 0))
            .filter(|to| !own.starts_with(to))
            .collect()
    };
    modules
        .iter()
        .map(|(own, file)| (own, of(own, file)))
        .collect()
}

/// All that can be reached from `from`.
fn reached(arrows: &BTreeMap<&Names, BTreeSet<Names>>, from: &Names) -> BTreeSet<Names> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
    while let Some(at) = next.pop() {
        for to in arrows.get(&at).into_iter().flatten() {
            if seen.insert(to.clone()) {
                next.push(to.clone());
            }
        }
    }
    seen
}

/// The files of the crate in `folder` that reach themselves.
fn circles(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    sources(folder, &mut found);
    let modules: Modules = found
        .iter()
        .map(|source| {
            (
                module_of(source.strip_prefix(folder).unwrap()),
                read(source),
            )
        })
        .collect();
    let arrows = arrows(&modules);
    let in_one = modules
        .keys()
        .filter(|own| reached(&arrows, own).contains(*own));
    in_one.map(|own| own.join("::")).collect()
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (folder, _) in crates().into_values() {
        let found = circles(&root.join(&folder).join("src"));
        assert!(
            found.is_empty(),
            "{folder}: these are in a circle: {found:?}"
        );
    }
}

#[test]
fn a_circle_is_found_through_what_a_module_hands_on() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("lib.rs", "mod a;\nmod b;\nmod d;\n");
    write(
        "a/mod.rs",
        "mod c;\npub use c::{\n    Deep,\n    other,\n};\n",
    );
    write(
        "a/c.rs",
        "use crate::b::Shallow;\npub struct Deep;\npub fn other(_: Shallow) {}\n",
    );
    write("b.rs", "pub(crate) use std::fmt;\npub struct Shallow;\n");
    write(
        "d.rs",
        "use super::a::Deep;\npub const fn far(_: Deep) {}\n",
    );
    assert_eq!(circles(folder.path()), [""; 0]);
    write("b.rs", "pub struct Shallow(Option<Box<crate::a::Deep>>);\n");
    assert_eq!(circles(folder.path()), ["a::c", "b"]);
    write(
        "b.rs",
        "pub struct Shallow;\n#[cfg(test)]\nmod tests { use crate::a::Deep; }\n",
    );
    assert_eq!(circles(folder.path()), [""; 0]);
}
