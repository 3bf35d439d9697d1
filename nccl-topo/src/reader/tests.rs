use super::*;

const GPU: &str =
    "busid=\"0000:3b:00.0\" class=\"0x030200\" link_speed=\"16.0 GT/s PCIe\" link_width=\"16\"";
const CPU: &str = "affinity=\"ff\" arch=\"x86_64\" vendor=\"AuthenticAMD\"";

/// A file with `inside` in its one `<cpu>`, which is on line 2, and `inside` from line 3.
fn file(inside: &str) -> String {
    format!("<system version=\"1\">\n<cpu numaid=\"0\" {CPU}>\n{inside}\n</cpu>\n</system>\n")
}

/// The findings as `line: message`, with their effect.
fn found(text: &str) -> Vec<(Effect, String)> {
    let violations = read(text).violations.into_iter();
    violations
        .map(|found| (found.effect, found.to_string()))
        .collect()
}

/// The one finding.
#[track_caller]
fn only(text: &str) -> (Effect, String) {
    let mut all = found(text);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[track_caller]
fn assert_fatal(text: &str, says: &str) {
    let (effect, message) = only(text);
    assert_eq!(effect, Effect::Fatal, "{message}");
    assert!(message.contains(says), "{message}");
    assert_eq!(read(text).system, None);
}

#[track_caller]
fn assert_misread(text: &str, says: &str) {
    let (effect, message) = only(text);
    assert_eq!(effect, Effect::Misread, "{message}");
    assert!(message.contains(says), "{message}");
    assert!(read(text).system.is_some());
    assert!(parse(text).is_err());
}

#[test]
fn a_good_file_is_taken_with_its_lines() {
    let system = parse(&file(&format!("<pci {GPU}/>"))).unwrap();
    let cpu = system.cpus().next().unwrap();
    assert_eq!((cpu.line, cpu.children[0].line), (2, 3));
    assert_eq!(cpu.children[0].get("busid"), Some("0000:3b:00.0"));
}

#[test]
fn comments_and_single_quotes_and_a_space_before_the_end_are_fine() {
    let text = format!(
        "<!-- a -- > b\n-->{}",
        file(&format!("<pci {} /><!--x-->", GPU.replace('"', "'")))
    );
    assert_eq!(found(&text), []);
}

#[test]
fn headers_and_declarations_stop_nccl() {
    for (head, says) in [
        ("<?xml version=\"1.0\"?>\n", "1: an XML header"),
        (
            "<!DOCTYPE system SYSTEM \"nccl.dtd\">\n",
            "1: a declaration",
        ),
        ("\u{feff}", "1: '\\u{feff}' where a tag should begin"),
        ("text\n", "1: 't' where a tag"),
        ("\t", "1: '\\t' where a tag"),
    ] {
        assert_fatal(&format!("{head}{}", file("")), says);
    }
}

#[test]
fn tabs_and_line_breaks_have_no_place_inside_a_tag() {
    for (inside, says) in [
        (format!("<pci\n {GPU}/>"), "3: '\\n' inside a tag"),
        (
            format!("<pci {}/>", GPU.replacen(' ', "\n", 1)),
            "'\\n' inside a tag",
        ),
        (
            format!("<pci {}/>", GPU.replacen(' ', "\t", 1)),
            "'\\t' inside a tag",
        ),
        (format!("<pci {GPU}/ >"), "' ' inside a tag"),
        (format!("<pci {GPU}></pci >"), "' ' inside a tag"),
        (format!("\t<pci {GPU}/>"), "'\\t' where a tag should begin"),
    ] {
        let all = found(&file(&inside));
        assert!(
            all.iter()
                .any(|(e, m)| *e == Effect::Fatal && m.contains(says)),
            "{inside}: {all:?}"
        );
    }
}

#[test]
fn a_comment_whose_first_word_holds_an_equals_sign_stops_nccl() {
    assert_fatal(
        &file("<!--a=b-->"),
        "3: \"=\" in the first word of a comment",
    );
    assert_eq!(found(&file("<!-- a=b-->")), []);
}

#[test]
fn values_need_quotes_and_have_a_length() {
    let speed = GPU.replace("link_width=\"16\"", "link_width=16");
    assert_fatal(
        &file(&format!("<pci {speed}/>")),
        "the value of \"link_width\" begins with '1'",
    );
    for (bytes, fits) in [(253, true), (254, false)] {
        let text = file(&format!("<pci {GPU} x=\"{}\"/>", "y".repeat(bytes)));
        assert_eq!(found(&text).is_empty(), fits);
    }
}

#[test]
fn elements_must_be_closed_in_order() {
    assert_fatal(
        &file(&format!("<pci {GPU}></pic>")),
        "found </pic>; expected </pci>",
    );
    assert_fatal(
        "<system version=\"1\">\n",
        "2: the file ends inside <system>",
    );
    assert_fatal(
        "<system version=\"1\">\n<cpu",
        "2: the file ends inside a tag",
    );
    assert_fatal(
        &format!("{}</cpu>", file("")),
        "</cpu> closes no open element",
    );
    assert_fatal(
        &format!("{}<!-- ", file("")),
        "the file ends inside a comment",
    );
}

#[test]
fn the_256th_element_is_one_too_many() {
    let many = |count: u32| {
        let pci = |index| {
            let busid = format!("{:04x}:3b:00.0", index);
            format!("<pci {}/>", GPU.replace("0000:3b:00.0", &busid))
        };
        file(&(0..count).map(pci).collect::<Vec<_>>().join("\n"))
    };
    assert_eq!(found(&many(253)), []);
    assert_fatal(&many(254), "this is element 256; NCCL accepts at most 255");
    assert_fatal(&many(300), "this is element 256");
}

#[test]
fn elements_inside_unknown_ones_do_not_count() {
    let inside = format!("<extra>{}</extra>", "<pci/>".repeat(300));
    let (effect, message) = only(&file(&inside));
    assert_eq!(effect, Effect::Ignored);
    assert!(
        message.starts_with("3: <extra>: an element that NCCL does not know"),
        "{message}"
    );
}

#[test]
fn attributes_after_the_sixteenth_are_passed_over_and_nccls_own_need_room() {
    let ids =
        "vendor=\"0x10de\" device=\"0x2330\" subsystem_vendor=\"0x10de\" subsystem_device=\"0x1\"";
    let extra = |given: &str, count: u32| {
        let more: String = (0..count).map(|n| format!(" x{n}=\"\"")).collect();
        file(&format!("<pci {GPU}{given}{more}/>"))
    };
    // Four given, and four ids that NCCL adds.
    assert_eq!(found(&extra("", 9)), []);
    assert_fatal(&extra("", 10), "18 attributes");
    // All are given: nothing is added.
    let ids = format!(" {ids}");
    assert_eq!(found(&extra(&ids, 8)), []);
    let (effect, message) = only(&extra(&ids, 9));
    assert_eq!(effect, Effect::Ignored, "{message}");
    assert!(message.contains("17 attributes"), "{message}");
    let text = extra(&ids, 9);
    let system = read(&text).system.unwrap();
    let pci = &system.cpus().next().unwrap().children[0];
    assert_eq!((pci.get("x7"), pci.get("x8")), (Some(""), None));
    // What stands after sixteen empty ones is lost.
    let lost = found(&file(&format!("<pci {}{GPU}/>", " ".repeat(20))));
    let says = |text: &str| lost.iter().any(|(_, message)| message.contains(text));
    assert!(says("24 attributes") && says("no busid"), "{lost:?}");
}

#[test]
fn a_model_is_filled_in_with_the_family_alone() {
    let with = |vendor: &str, ids: &str| {
        let cpu = format!("vendor=\"{vendor}\"{ids}");
        file("").replace("vendor=\"AuthenticAMD\"", &cpu)
    };
    for vendor in ["GenuineIntel", "CentaurHauls"] {
        assert_fatal(&with(vendor, " familyid=\"6\""), "no modelid");
        assert_misread(&with(vendor, ""), "no familyid");
        assert_misread(&with(vendor, " modelid=\"85\""), "no familyid");
    }
    let newest = Rules::in_use().last().unwrap();
    let amd = with("AuthenticAMD", " familyid=\"26\"");
    assert_eq!(read_for(&amd, newest).violations, []);
}

#[test]
fn the_version_must_be_there_and_be_one() {
    assert_fatal("<system>\n</system>", "no version");
    assert_fatal("<system version=\"2\">\n</system>", "version is \"2\"");
    assert_fatal("<system version=\"x1\">\n</system>", "version is \"x1\"");
    // Text after the number is passed over.
    let reading = read(&file("").replace("<system version=\"1\"", "<system version=\"01x\""));
    assert!(reading.system.is_some(), "{:?}", reading.violations);
}

#[test]
fn a_file_without_a_system_is_no_file() {
    let other = found("<topology/>");
    assert!(other[0].1.contains("does not know at the top"), "{other:?}");
    assert!(other[1].1.contains("no <system>"), "{other:?}");
    assert_eq!(read("").system, None);
    let (effect, message) = only(&format!("{}<system version=\"1\"/>", file("")));
    assert_eq!(
        (effect, message.contains("a second <system>")),
        (Effect::Ignored, true)
    );
}

#[test]
fn addresses_that_nccl_would_not_find_are_named() {
    for wrong in ["3b:00.0", "0000:3B:00.0", "00000000:3b:00.0", "0000:3b:00"] {
        let text = file(&format!("<pci {}/>", GPU.replace("0000:3b:00.0", wrong)));
        assert_misread(
            &text,
            &format!("3: <pci busid=\"{wrong}\">: busid is \"{wrong}\""),
        );
    }
    let text = file(&format!("<pci {}/>", GPU.replace("0000:3b", "10000:3b")));
    assert_eq!(found(&text), []);
}

#[test]
fn numbers_and_addresses_that_come_twice_are_named() {
    assert_misread(
        &file(&format!("<pci {GPU}/><pci {GPU}/>")),
        "is also on line 3",
    );
    let twice = format!(
        "<system version=\"1\">\n<cpu numaid=\"0\" {CPU}/>\n<cpu numaid=\"0\" {CPU}/>\n</system>"
    );
    assert_misread(
        &twice,
        "3: <cpu numaid=\"0\">: numaid \"0\" is also on line 2",
    );
}

#[test]
fn speeds_are_known_by_how_they_begin() {
    for (speed, known) in [
        ("16 GT/s", true),
        ("16.0 GT/s PCIe", true),
        ("16.0 GT/s", false),
        ("64.0 GT/s PCIe", true),
        ("", true),
        ("Unknown", false),
    ] {
        let text = file(&format!("<pci {}/>", GPU.replace("16.0 GT/s PCIe", speed)));
        assert_eq!(found(&text).is_empty(), known, "{speed}");
    }
}

#[test]
fn what_nccl_fills_in_only_sometimes_is_asked_for() {
    for key in ["class", "link_speed", "link_width"] {
        let text = file(&format!("<pci {}/>", GPU.replace(key, "other")));
        assert_misread(&text, &format!("no {key}"));
    }
    let intel = file("").replace("AuthenticAMD", "GenuineIntel");
    // The model comes with the family.
    assert_misread(&intel, "no familyid");
    assert_misread(&file("").replace("arch=", "ark="), "no arch");
    assert_fatal(&file("").replace("numaid=", "id="), "no numaid");
}

#[test]
fn gpus_that_a_dump_left_are_named() {
    let dump = format!("<pci {GPU}>\n<gpu dev=\"0\" sm=\"80\" rank=\"0\" gdr=\"1\"/></pci>");
    let all = read(&file(&dump)).violations;
    assert_eq!(all[0].effect, Effect::Note);
    let said = "4: <gpu dev=\"0\">: dev=\"0\" should be left out";
    assert!(all[0].to_string().starts_with(said), "{all:?}");
    let bridge = dump
        .replace("0x030200", "0x060400")
        .replace(" dev=\"0\"", "");
    assert_fatal(&file(&bridge), "a bridge holds a <gpu>");
}

#[test]
fn an_nvlink_needs_both_ends() {
    let second = GPU.replace(":00.0", ":01.0");
    let linked = |target: &str, back: &str| {
        let link = format!("<gpu><nvlink {target} count=\"2\" tclass=\"0x030200\"/></gpu>");
        let other = format!("<gpu><nvlink {back} count=\"2\" tclass=\"0x030200\"/></gpu>");
        file(&format!(
            "<pci {GPU}>{link}</pci><pci {second}>{other}</pci>"
        ))
    };
    let busid = |tag: &str| tag.split('"').nth(1).unwrap().to_owned();
    let to = |tag: &str| format!("target=\"{}\"", busid(tag));
    let good = read(&linked(&to(&second), &to(GPU))).violations;
    assert!(
        good.iter().all(|found| found.effect == Effect::Note),
        "{good:?}"
    );
    let among = |text: &str, effect, said: &str| {
        let all = read(text).violations;
        let is = |found: &Violation| found.effect == effect && found.to_string().contains(said);
        assert!(all.iter().any(is), "{said}: {all:?}");
    };
    let none = linked("", &to(GPU));
    among(&none, Effect::Fatal, "no target; NCCL refuses the file");
    let itself = linked(&to(GPU), &to(&second));
    among(&itself, Effect::Misread, "this is the GPU itself");
    let one_way = linked(&to(&second), "target=\"fffffff:ffff:ff\"");
    among(&one_way, Effect::Misread, "no link back");
}

#[test]
fn kept_gpus_are_named() {
    assert_misread(
        &file(&format!("<pci {GPU}><gpu keep=\"1\"/></pci>")),
        "keep=\"1\" should be left out",
    );
    assert_eq!(found(&file("<nic keep=\"1\"/>")), []);
}

#[test]
fn an_affinity_is_hex_words() {
    for (mask, good) in [
        ("ffffffff,00000000", true),
        ("", true),
        ("0-3", false),
        ("fffffffff", false),
    ] {
        let text = file("").replace("\"ff\"", &format!("\"{mask}\""));
        assert_eq!(found(&text).is_empty(), good, "{mask}");
    }
}

#[test]
fn widths_vendors_and_places_that_nccl_does_not_know_are_named() {
    for (wrong, says) in [
        (GPU.replace("\"16\"", "\"x16\""), "link_width is \"x16\""),
        (GPU.replace("\"16\"", "\"64\""), "link_width is \"64\""),
    ] {
        assert_misread(&file(&format!("<pci {wrong}/>")), says);
    }
    let hygon = file("").replace("AuthenticAMD", "HygonGenuine");
    assert_misread(&hygon, "vendor is \"HygonGenuine\"");
    let below = GPU.replace(":00.0", ":01.0");
    let text = file(&format!("<pci {GPU}><pci {below}/></pci>"));
    assert_misread(&text, "NCCL ignores a <pci> below a GPU or NIC");
    for (c2c, key) in [("count=\"1\"", "bw"), ("bw=\"1\"", "count")] {
        let text = file(&format!("<pci {GPU}><gpu><c2c {c2c}/></gpu></pci>"));
        let fatal = found(&text)
            .into_iter()
            .filter(|(effect, _)| *effect == Effect::Fatal);
        let says: Vec<_> = fatal.map(|(_, message)| message).collect();
        assert!(
            says.len() == 1 && says[0].contains(&format!("no {key};")),
            "{says:?}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn any_text_gives_an_answer(text in "[<>/=\"'!? \n\ta-z0-9.:-]{0,80}") {
        let reading = read(&text);
        proptest::prop_assert_eq!(parse(&text).is_ok(), reading.system.is_some() && reading.violations.is_empty());
    }

    #[test]
    fn a_good_file_cut_short_is_refused(end in 1_usize..150) {
        let text = file(&format!("<pci {GPU}/>"));
        let cut = &text[..text.len() - 1 - end];
        proptest::prop_assert!(parse(cut).is_err());
    }
}

#[test]
fn what_a_file_needs_differs_by_version() {
    let of = |text: &str, rules: &Rules| {
        let reading = read_for(text, rules);
        let problems = reading.violations.iter().map(ToString::to_string);
        (reading.system.is_some(), problems.collect::<Vec<_>>())
    };
    let newest = Rules::in_use().last().unwrap();
    // The family of AMD's processors decides in the newest, too: its own code ends with an error without it.
    let amd = file("");
    assert_eq!(of(&amd, Rules::assumed()), (true, Vec::new()));
    let (_, problems) = of(&amd, newest);
    assert!(problems[0].contains("no familyid"), "{problems:?}");
    // The class of an NVLink's far end, which the others fill in.
    let link = "<gpu><nvlink target=\"fffffff:ffff:ff\" count=\"2\"/></gpu>";
    let linked =
        file(&format!("<pci {GPU}>{link}</pci>")).replace(" vendor", " familyid=\"175\" vendor");
    assert!(of(&linked, Rules::assumed()).0);
    let (is_taken, problems) = of(&linked, newest);
    assert!(
        !is_taken
            && problems
                .iter()
                .any(|one| one.contains("no tclass; NCCL refuses the file")),
        "{problems:?}"
    );
    // The oldest has room for 128 elements in one.
    let port = |at: usize| GPU.replace("3b:00.0", &format!("{at:02x}:00.0"));
    let ports = (0..130).map(|at| format!("<pci {}/>\n", port(at)));
    let many = file(&ports.collect::<String>());
    assert!(of(&many, Rules::assumed()).0);
    let (is_read, problems) = of(&many, Rules::oldest());
    assert!(!is_read);
    assert!(
        problems[0].contains("130 elements inside it; NCCL accepts 128"),
        "{problems:?}"
    );
}
