//! Which slurm.conf slurmd goes by: one of the host's own, or its copies of slurmctld's files.

use std::fs;
use std::os::unix::fs::symlink;

use crate::common::Host;
use serde_json::Value;

use super::{CONF, NODES, document, findings};

/// A host with slurmd's copies in a folder, and in /etc/slurm a slurm.conf that nobody uses.
fn host_with(folder: &str) -> Host {
    let host = Host::new();
    let copies = host.path(folder);
    fs::create_dir_all(copies.parent().unwrap()).unwrap();
    fs::rename(host.path("etc/slurm"), &copies).unwrap();
    let plugstack = copies.join("plugstack.conf");
    let text = fs::read_to_string(&plugstack).unwrap();
    fs::write(
        plugstack,
        text.replace("/etc/slurm/", &format!("/{folder}/")),
    )
    .unwrap();
    host.write(
        "etc/slurm/slurm.conf",
        "ClusterName=stale\nSlurmctldHost=old\nGresTypes=gpu\nNodeName=gpu1 CPUs=1\n",
    );
    host
}

fn conf_of(host: &Host) -> (String, String) {
    let document = document(host, "24.11");
    let part = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
    (part("slurm_conf"), part("slurm_conf_why"))
}

#[test]
fn slurmds_own_choice_of_slurm_conf_is_followed() {
    const COPIES: &str = "run/slurm/conf";
    let copy = format!("/{COPIES}/slurm.conf");
    let unit = "[Service]\nEnvironmentFile=-/etc/sysconfig/slurmd\nEnvironmentFile=-/etc/default/slurmd\n\
                ExecStart=/usr/sbin/slurmd --systemd";
    let plain = format!("{unit} $SLURMD_OPTIONS\n");
    let server = "--conf-server: its copy /run/slurm/conf/slurm.conf is read, /etc/slurm/slurm.conf is not used";
    let service = format!("slurmd's service starts it with {server}");
    let by_file = "slurmd's service starts it with -f /run/slurm/conf/slurm.conf, /etc/slurm/slurm.conf is not used";
    for (file, text, why) in [
        (
            "etc/sysconfig/slurmd",
            "SLURMD_OPTIONS=\"--conf-server head:6817\"\n",
            service.as_str(),
        ),
        (
            "etc/default/slurmd",
            "SLURMD_OPTIONS=--conf-server=head\n",
            service.as_str(),
        ),
        // -f does not count beside it.
        (
            "etc/default/slurmd",
            "SLURMD_OPTIONS='-f /etc/slurm/slurm.conf --conf-server=head'\n",
            service.as_str(),
        ),
        (
            "usr/lib/systemd/system/slurmd.service",
            &format!("{unit} --conf-server head\n"),
            service.as_str(),
        ),
        (
            "etc/systemd/system/slurmd.service.d/site.conf",
            "[Service]\nExecStart=\nExecStart=/usr/sbin/slurmd -D --conf-server head\n",
            service.as_str(),
        ),
        (
            "etc/default/slurmd",
            "SLURMD_OPTIONS=\"-f /run/slurm/conf/slurm.conf\"\n",
            by_file,
        ),
        (
            "etc/sysconfig/slurmd",
            "SLURM_CONF=/run/slurm/conf/slurm.conf\n",
            "slurmd's service starts it with SLURM_CONF=/run/slurm/conf/slurm.conf, /etc/slurm/slurm.conf is not used",
        ),
        (
            "proc/4711/cmdline",
            "/usr/sbin/slurmd\0-D\0--conf-server\0head\0",
            &format!("slurmd was started with {server}"),
        ),
        (
            "proc/4711/cmdline",
            "/usr/sbin/slurmd\0-Df/run/slurm/conf/slurm.conf\0",
            "slurmd was started with -f /run/slurm/conf/slurm.conf, /etc/slurm/slurm.conf is not used",
        ),
    ] {
        let host = host_with(COPIES);
        host.write("usr/lib/systemd/system/slurmd.service", &plain);
        if file.starts_with("proc") {
            host.write("proc/4711/comm", "slurmd\n");
            // The service is not asked where one runs.
            host.write("etc/default/slurmd", "SLURMD_OPTIONS=-f/nowhere\n");
        }
        host.write(file, text);
        assert_eq!(
            conf_of(&host),
            (copy.clone(), why.to_owned()),
            "{file}: {text}"
        );
        assert_eq!(findings(&host, "24.11"), [] as [Value; 0], "{file}: {text}");
        let page = host.page(&["doctor", "--slurm-release", "24.11"]);
        let first = page.lines().next().unwrap();
        assert!(first.ends_with(&format!("{copy}: {why})")), "{first}");
    }
}

#[test]
fn slurmds_copies_are_found_where_it_keeps_them() {
    // slurmd's link leads to its spool folder, in a recording of it too.
    let host = host_with("srv/slurm/n1/conf-cache");
    fs::create_dir_all(host.path("run/slurm")).unwrap();
    symlink("/srv/slurm/n1/conf-cache", host.path("run/slurm/conf")).unwrap();
    host.write("etc/default/slurmd", "SLURMD_OPTIONS=--conf-server=head\n");
    assert_eq!(conf_of(&host).0, "/run/slurm/conf/slurm.conf");

    // One that was reconfigured says where.
    let host = host_with("srv/other/conf-cache");
    host.write("proc/4711/comm", "slurmd\n");
    host.write("proc/4711/cmdline", "/usr/sbin/slurmd\0-D\0");
    host.write(
        "proc/4711/environ",
        "SLURMD_RECONF=1\0SLURMD_RECONF_CONF_CACHE=/srv/other/conf-cache\0",
    );
    let (path, why) = conf_of(&host);
    assert_eq!(path, "/srv/other/conf-cache/slurm.conf");
    assert!(
        why.starts_with("slurmd has its files from slurmctld: "),
        "{why}"
    );

    let host = host_with("var/spool/slurmd/conf-cache");
    let (path, why) = conf_of(&host);
    assert_eq!(path, "/etc/slurm/slurm.conf");
    assert_eq!(
        why,
        "a slurmd that starts now reads it, and not the copy /var/spool/slurmd/conf-cache/slurm.conf"
    );
    fs::remove_file(host.path("etc/slurm/slurm.conf")).unwrap();
    let (path, why) = conf_of(&host);
    assert_eq!(path, "/var/spool/slurmd/conf-cache/slurm.conf");
    assert_eq!(
        why,
        "slurmd's copy of slurmctld's file, as there is no /etc/slurm/slurm.conf"
    );
}

#[test]
fn a_file_that_slurmd_does_not_use_is_not_judged_in_place_of_another() {
    for (options, expected) in [
        (
            "--conf-server head",
            "slurmd's service starts it with --conf-server, and its copy is not there (in /run/slurm/conf or /var/spool/slurmd/conf-cache), \
             /etc/slurm/slurm.conf is not used",
        ),
        ("-f /srv/none.conf", "/srv/none.conf: no such file"),
        (
            "-f slurm.conf",
            "slurmd's service starts it with -f slurm.conf, and which file that is is not known, /etc/slurm/slurm.conf is not used",
        ),
    ] {
        let host = Host::new();
        host.write(
            "etc/default/slurmd",
            &format!("SLURMD_OPTIONS='{options}'\n"),
        );
        let document = document(&host, "24.11");
        assert_eq!(document["slurm_conf"], Value::Null, "{options}");
        let unchecked = document["unchecked"].as_array().unwrap();
        let expected = format!("Slurm's configuration: {expected}");
        assert!(
            unchecked.iter().any(|own| *own == expected),
            "{unchecked:#?}"
        );
    }
}

/// Follows a change as it is told, at slurmctld: slurmd's copy is then what slurmctld has.
fn follow(host: &Host, change: &str) {
    let change = change.strip_prefix("on slurmctld's host, ").unwrap();
    let (what, copies) = change
        .split_once(", then `scontrol reconfigure` (slurmd's ")
        .unwrap();
    let place = copies
        .strip_prefix("copy: ")
        .and_then(|place| place.strip_suffix(')'));
    let (copy, number) = place.unwrap().rsplit_once(':').unwrap();
    let (file, rest) = what.split_once(": ").unwrap();
    assert!(copy.ends_with(&format!("/{file}")), "{change}");
    let pairs = rest.split("   (").next().unwrap();
    super::followed::set(host.root(), copy, number.parse().unwrap(), pairs);
}

#[test]
fn slurmds_copies_are_changed_where_slurmctld_has_the_files() {
    let host = host_with("run/slurm/conf");
    host.write("etc/default/slurmd", "SLURMD_OPTIONS=--conf-server=head\n");
    let gres = "run/slurm/conf/gres.conf";
    host.replace(gres, "Cores=0-3", "Cores=4-7");
    let found = findings(&host, "22.05.8");
    let changes: Vec<&str> = found
        .iter()
        .map(|own| own["change"].as_str().unwrap())
        .collect();
    assert!(!changes.is_empty());
    for change in &changes {
        assert!(
            change.starts_with("on slurmctld's host, gres.conf: Cores="),
            "{changes:#?}"
        );
        follow(&host, change);
    }
    assert_eq!(findings(&host, "22.05.8"), [] as [Value; 0]);
    let lines = host.page(&["gres-conf", "--slurm-release", "22.05.8"]);
    let says = "# on slurmctld's host, for slurmd overwrites its copies in /run/slurm/conf: the lines above in gres.conf, and in slurm.conf:";
    assert!(lines.contains(says), "{lines}");
}

#[test]
fn what_a_forecast_looked_at_is_said_as_it_was() {
    let looked_at = |host: &Host| {
        let document = document(host, "24.11");
        let text = document["registration"]["looked_at"].as_str().unwrap();
        text.rsplit_once("each other; ").unwrap().1.to_owned()
    };
    // A part of a slurm.conf is not held against the host.
    let host = Host::new();
    assert!(looked_at(&host).starts_with("not users, folders, other files"));
    // Nor is memory that is not recorded.
    let without = |host: &Host| {
        let document = document(host, "24.11");
        let text = document["registration"]["looked_at"].as_str().unwrap();
        text.starts_with(
            "the node's line without RealMemory= (not recorded of the machine) and its GPUs",
        )
    };
    host.replace(NODES, "Gres=", "RealMemory=9000 Gres=");
    assert!(!without(&host));
    fs::remove_file(host.path("proc/meminfo")).unwrap();
    assert!(without(&host));
    let text = fs::read_to_string(host.path(CONF)).unwrap();
    host.write(CONF, &format!("SlurmctldHost=head\n{text}"));
    let expected = "users, folders and files that slurm.conf needs, as far as they are recorded; ";
    assert!(looked_at(&host).starts_with(expected));
}
