//! What makes a node a machine of its own, and what the finish leaves behind.

use ka::plan::{FinishPlan, FirstBoot, GoldenHost, GoldenMachine, Loader, NodeAddress, NodeName};
use ka_agent::finish::{Cause, Machine};
use ka_host::hardware::CardModules;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::copied::{Copied, GRUB_INSTALL, GRUB_MKCONFIG, NEW, plan};

/// Remembers what it was told, and its environment.
const HOOK: &str = "#!/bin/sh\necho from the site\nenv | sed -n 's/^KA_/KA_/p' > /etc/hook\n";

#[test]
fn a_node_becomes_a_machine_of_its_own() {
    let copied = Copied::new();
    let root = copied.root();
    for (file, text) in [
        ("etc/hostname", "golden\n"),
        ("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 golden\n"),
        ("etc/network/interfaces", "auto eth0\niface eth0 inet static\n    address 10.0.0.1/24\n"),
        ("etc/ssh/ssh_host_ed25519_key", "golden secret"),
        ("etc/ssh/ssh_host_ed25519_key.pub", "ssh-ed25519 AAAA root@golden"),
        ("var/log/wtmp", "logins"),
        ("etc/modprobe.d/site.conf", "options x y=1\n"),
        ("usr/lib/systemd/systemd", ""),
        ("etc/ka/finish.d/10-site", HOOK),
        ("etc/ka/finish.d/20-notes", "no program\n"),
    ] {
        fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
        fs::write(root.join(file), text).unwrap();
    }
    fs::set_permissions(root.join("etc/ka/finish.d/10-site"), fs::Permissions::from_mode(0o755)).unwrap();
    copied.tool("ssh-keygen", "#!/bin/sh\n[ \"$*\" = '-q -t ed25519 -N  -C root@node7 -f /etc/ssh/ssh_host_ed25519_key' ]\necho own > \"$9\"; printf public > \"$9.pub\"\n");
    let agent = root.join("agent");
    fs::write(&agent, "static").unwrap();
    let mut plan = plan(Loader::Grub);
    plan.finish = FinishPlan {
        name: Some(NodeName {
            hostname: "node7".to_owned(),
            address: Some(NodeAddress { address: [10, 0, 0, 7].into(), prefix: None, gateway: None }),
            cards: Vec::new(),
        }),
        golden: GoldenHost { address: Some([10, 0, 0, 1].into()), ..GoldenHost::default() },
        machine: GoldenMachine::default(),
        first_boot: Some(FirstBoot { controller: "10.0.0.1:80".to_owned(), token: "secret".to_owned() }),
        store_log_password: None,
    };
    let machine = Machine {
        storage_modules: vec!["nvme".to_owned()],
        cards: vec![CardModules { interface: "eth0".to_owned(), modules: vec!["virtio_net".to_owned()] }],
        mac: Some("52:54:00:00:00:07".parse().unwrap()),
        address: Some([10, 0, 0, 99].into()),
        agent: Some(agent),
        ..Machine::default()
    };

    copied.finish_as(&plan, &machine).unwrap();

    assert_eq!(copied.read("etc/hostname"), "node7\n");
    assert_eq!(copied.read("etc/hosts"), "127.0.0.1 localhost\n10.0.0.7\tnode7\n");
    assert!(copied.read("etc/network/interfaces").ends_with("    address 10.0.0.7/24\n"));
    assert_eq!(copied.read("var/log/wtmp"), "");
    assert_ne!(copied.read("etc/ssh/ssh_host_ed25519_key"), "golden secret");
    assert!(
        copied
            .read("etc/modprobe.d/ka.conf")
            .ends_with("alias eth0 virtio_net\nalias scsi_hostadapter nvme\n")
    );
    let facts = copied.read("etc/hook");
    for fact in [
        "KA_RUN=r1",
        "KA_HOSTNAME=node7",
        "KA_MAC=52:54:00:00:00:07",
        "KA_ADDRESS=10.0.0.99",
        "KA_INTERFACE=eth0",
        &format!("KA_DISK={}", copied.disk.node()),
        &format!("KA_ROOT_UUID={NEW}"),
        "KA_FIRMWARE=bios",
        "KA_LOADER=grub",
    ] {
        assert!(facts.lines().any(|line| line == fact), "{fact} is missing in:\n{facts}");
    }
    assert_eq!(copied.read("var/lib/ka-first-boot/ka-agent"), "static");
    assert_eq!(copied.read("var/lib/ka-first-boot/message"), "10.0.0.1:80\nsecret\n");
    assert!(
        copied
            .read("etc/systemd/system/multi-user.target.wants/ka-first-boot.service")
            .contains("ka-agent booted")
    );
}

#[test]
fn a_failing_step_of_the_site_fails_the_node() {
    let copied = Copied::new();
    let hook = copied.root().join("etc/ka/finish.d/10-site");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\necho no licence for this machine >&2\nexit 4\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(
        copied.fail(),
        "Run the site's own steps: /etc/ka/finish.d/10-site: exit status: 4\nno licence for this machine"
    );
}

#[test]
fn what_a_tool_leaves_running_is_named() {
    let copied = Copied::new();
    copied.tool("update-grub", &GRUB_MKCONFIG.replace("$2", "/boot/grub/grub.cfg"));
    copied.tool(
        "grub-install",
        &GRUB_INSTALL
            .replace("set -e", "set -e\nsleep 600 </dev/null >/dev/null 2>&1 &\necho $! >/boot/pid\n"),
    );
    let error = copied.finish(&[]).unwrap_err();
    let pid = copied.read("boot/pid");
    std::process::Command::new("kill").arg(pid.trim()).status().unwrap();
    let Cause::Busy { users, .. } = &error.cause else { panic!("{error}") };
    assert_eq!(users, &[format!("{} sleep", pid.trim())]);
}
