//! The option: its words, what is wrong with others, and whose count.

use super::*;
use proptest::prelude::*;

#[test]
fn each_kind_is_read() {
    let items = Items::parse(
        "restricted,node,mem=bind,map=localid,nccl=off,nic=on,frameworks=off,verbose,override",
    )
    .unwrap();
    let settings = Settings::from(&items);
    assert_eq!(
        settings,
        Settings {
            policy: Policy::Restricted,
            width: Width::Node,
            memory: Memory::Bind,
            map: Map::Localid,
            nccl: Nccl::Off,
            nic: Nic::On,
            frameworks: Frameworks::Off,
            report: Verbosity::Verbose,
            override_user: true,
        }
    );
}

#[test]
fn nothing_means_what_ships() {
    assert_eq!(Items::parse("").unwrap(), Items::default());
    assert_eq!(Settings::from(&Items::default()).policy, Policy::BestEffort);
}

#[test]
fn a_bad_item_is_named_with_what_is_accepted() {
    for (text, says) in [
        (
            "clsest",
            "unknown item \"clsest\"; expected off, none, best-effort",
        ),
        (
            "mem=close",
            "\"mem=close\": expected mem=preferred|bind|interleave|none",
        ),
        (
            "men=bind",
            "unknown key \"men\"; expected mem=, map=, nccl=, nic= or frameworks=",
        ),
        (
            "node,l3",
            "\"node\" and \"l3\" are both a width; expected one",
        ),
        ("none,\u{1b}[2J", "unknown item \"\\u{1b}[2J\""),
    ] {
        let error = Items::parse(text).unwrap_err().to_string();
        assert!(error.starts_with(says), "{error}");
    }
}

#[test]
fn a_lenient_reader_keeps_the_good_items() {
    let (items, problems) = Items::parse_leniently("node,bogus,restricted,l3");
    assert_eq!(items, Items::parse("node,restricted").unwrap());
    assert_eq!(problems.len(), 2);
}

#[test]
fn the_first_source_that_names_a_kind_wins() {
    let option = Items::parse("node").unwrap();
    let site = Items::parse("l3,mem=bind").unwrap();
    let both = option.or(&site);
    assert_eq!(both, Items::parse("mem=bind,node").unwrap());
}

#[test]
fn locked_kinds_are_dropped_and_named() {
    let mut items = Items::parse("node,mem=bind").unwrap();
    assert_eq!(
        items.drop_kinds(&[ItemKind::Policy, ItemKind::Width]),
        [ItemKind::Width]
    );
    assert_eq!(items, Items::parse("mem=bind").unwrap());
}

proptest! {
    #[test]
    fn any_text_gives_items_or_one_line(text in "\\PC{0,40}") {
        if let Err(error) = Items::parse(&text) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }
}

/// Every word of the option, what it chooses, and whether it is what holds by default.
#[test]
fn each_word_of_the_option_chooses_one_thing() {
    let words: &[(&str, Item, bool)] = &[
        ("off", Item::Policy(Policy::Off), false),
        ("none", Item::Policy(Policy::None), false),
        ("best-effort", Item::Policy(Policy::BestEffort), true),
        ("restricted", Item::Policy(Policy::Restricted), false),
        (
            "single-numa-node",
            Item::Policy(Policy::SingleNumaNode),
            false,
        ),
        ("exclusive", Item::Width(Width::Exclusive), true),
        ("node", Item::Width(Width::Node), false),
        ("socket", Item::Width(Width::Socket), false),
        ("l3", Item::Width(Width::L3), false),
        ("mem=preferred", Item::Memory(Memory::Preferred), true),
        ("mem=bind", Item::Memory(Memory::Bind), false),
        ("mem=interleave", Item::Memory(Memory::Interleave), false),
        ("mem=none", Item::Memory(Memory::None), false),
        ("map=auto", Item::Map(Map::Auto), true),
        ("map=visible", Item::Map(Map::Visible), false),
        ("map=localid", Item::Map(Map::Localid), false),
        ("nccl=on", Item::Nccl(Nccl::On), true),
        ("nccl=topo", Item::Nccl(Nccl::Topo), false),
        ("nccl=log", Item::Nccl(Nccl::Log), false),
        ("nccl=off", Item::Nccl(Nccl::Off), false),
        ("nic=report", Item::Nic(Nic::Report), true),
        ("nic=on", Item::Nic(Nic::On), false),
        ("nic=off", Item::Nic(Nic::Off), false),
        ("frameworks=on", Item::Frameworks(Frameworks::On), true),
        ("frameworks=off", Item::Frameworks(Frameworks::Off), false),
        ("verbose", Item::Verbosity(Verbosity::Verbose), false),
        ("quiet", Item::Verbosity(Verbosity::Quiet), false),
        ("override", Item::Override, false),
    ];
    let table: Vec<_> = TABLE
        .iter()
        .map(|row| (row.word, row.item, row.is_default()))
        .collect();
    assert_eq!(table, words);
    for (word, item, _) in words {
        let items = Items::parse(word).unwrap();
        assert_eq!(items.iter().collect::<Vec<_>>(), [*item], "{word}");
    }
}

#[test]
fn words_in_json_are_the_options() {
    for row in TABLE {
        let json = match row.item {
            Item::Policy(policy) => serde_json::to_value(policy),
            Item::Width(width) => serde_json::to_value(width),
            Item::Memory(memory) => serde_json::to_value(memory),
            Item::Map(map) => serde_json::to_value(map),
            Item::Nccl(nccl) => serde_json::to_value(nccl),
            Item::Nic(nic) => serde_json::to_value(nic),
            Item::Frameworks(frameworks) => serde_json::to_value(frameworks),
            Item::Verbosity(verbosity) => serde_json::to_value(verbosity),
            Item::Override => continue,
        };
        assert_eq!(json.unwrap(), row.value(), "{}", row.word);
    }
}

#[test]
fn what_is_expected_and_sruns_help_name_every_item() {
    assert_eq!(
        Items::parse("clsest").unwrap_err().to_string(),
        "unknown item \"clsest\"; expected off, none, best-effort, restricted or single-numa-node, \
         exclusive, node, socket or l3, mem=, map=, nccl=, nic=, frameworks=, verbose or quiet, override"
    );
    let each = ItemKind::ALL.map(|kind| {
        let values = table::values_of(kind, "|");
        if kind.has_key() {
            format!("{kind}={values}")
        } else if values == kind.name() {
            values
        } else {
            format!("{kind} {values}")
        }
    });
    let items = each.join(", ");
    let line = format!("bind each task to its GPUs' CPUs and memory; items: {items}");
    assert_eq!(USAGE.to_str().unwrap(), line);
}

#[test]
fn a_slip_is_answered_with_the_word_that_was_meant() {
    for (typed, meant) in [
        ("best-efort", "best-effort"),
        ("restricetd", "restricted"),
        ("verbos", "verbose"),
        ("overide", "override"),
    ] {
        let error = Items::parse(typed).unwrap_err().to_string();
        let start =
            format!("unknown item \"{typed}\"; did you mean \"{meant}\"? (expected off, none,");
        assert!(error.starts_with(&start), "{error}");
    }
    let error = |text: &str| Items::parse(text).unwrap_err().to_string();
    assert!(error("OFF").starts_with("unknown item \"OFF\"; did you mean \"off\"?"));
    assert_eq!(
        error("policy=restricted"),
        "\"policy=restricted\": expected restricted alone, without a key"
    );
    for typed in ["x", "l4", "preferred", "nodes-of-this-machine"] {
        let error = Items::parse(typed).unwrap_err();
        assert_eq!(error, OptionError::UnknownItem(typed.to_owned()));
    }
}

#[test]
fn readme_has_the_table_as_it_is_here() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let mut rows = readme
        .lines()
        .skip_while(|line| *line != "| kind | item | meaning |")
        .skip(2);
    let mut last = None;
    for row in TABLE {
        let kind = row.item.kind();
        let shown = if last == Some(kind) { "" } else { kind.name() };
        last = Some(kind);
        let default = if row.is_default() { " (default)" } else { "" };
        let gap = if shown.is_empty() { "" } else { " " };
        let line = format!(
            "| {shown}{gap}| `{}`{default} | {} |",
            row.word, row.meaning
        );
        assert_eq!(rows.next(), Some(line.as_str()));
    }
    assert_eq!(rows.next(), Some(""));
}
