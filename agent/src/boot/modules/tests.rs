use std::os::unix::fs::symlink;
use std::sync::{Arc, Mutex};

use super::*;

/// A fake machine: a module directory, devices, and a kernel that records what it is given.
struct Machine {
    root: tempfile::TempDir,
    calls: Arc<Mutex<Vec<String>>>,
}

const DEP: &str = "\
kernel/virtio/virtio.ko.xz:
kernel/virtio/virtio_ring.ko: kernel/virtio/virtio.ko.xz
kernel/virtio/virtio_pci.ko: kernel/virtio/virtio_ring.ko kernel/virtio/virtio.ko.xz
kernel/net/failover.ko:
kernel/net/net_failover.ko: kernel/net/failover.ko
kernel/net/virtio-net.ko.zst: kernel/net/net_failover.ko kernel/net/failover.ko kernel/virtio/virtio_ring.ko kernel/virtio/virtio.ko.xz
kernel/net/e1000.ko:
kernel/net/phy.ko:
kernel/net/r8169.ko:
kernel/net/late.ko:
kernel/gpu/nouveau.ko:
kernel/hid/hid.ko:
kernel/hid/usbhid.ko: kernel/hid/hid.ko
kernel/hid/hid-generic.ko: kernel/hid/hid.ko
";

const ALIAS: &str = "\
# Aliases extracted from modules themselves.
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
alias virtio:d00000001v* virtio_net
alias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000
alias pci:v000010ECd*sv*sd*bc*sc*i* r8169
alias pci:v000010DEd* nouveau
alias acpi*:BUILT:* builtin_one
alias usb:v*p*d*dc*dsc*dp*ic03isc*ip*in* usbhid
alias hid:b*g*v*p* hid_generic
";

impl Machine {
    fn new(devices: &[(&str, &str)]) -> Self {
        let machine = Self { root: tempfile::tempdir().unwrap(), calls: Arc::default() };
        machine.file("lib/modules/6/modules.dep", DEP);
        machine.file("lib/modules/6/modules.alias", ALIAS);
        machine.file("lib/modules/6/modules.softdep", "softdep r8169 pre: phy nosuch post: late\n");
        machine.file("lib/modules/6/modules.builtin", "kernel/builtin-one.ko\n");
        machine.file("etc/modprobe.d/gpu.conf", "# no screen\nblacklist nouveau\n");
        machine.file("lib/modprobe.d/net.conf", "options e1000 debug=16 \\\n copybreak=0\n");
        for (device, modalias) in devices {
            machine.device(device, modalias);
        }
        machine
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn device(&self, device: &str, modalias: &str) {
        self.file(&format!("sys/devices/{device}/modalias"), &format!("{modalias}\n"));
    }

    fn modules(&self, mut kernel: impl FnMut(&str) -> io::Result<()> + Send + 'static) -> Modules {
        let index = Index::read(self.root.path(), "6").unwrap();
        let calls = Arc::clone(&self.calls);
        let folder = self.root.path().join("lib/modules/6/kernel");
        let insert = move |path: &Path, options: &CStr| {
            let path = path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned();
            let call = format!("{path} {}", options.to_str().unwrap());
            calls.lock().unwrap().push(call.trim_end().to_owned());
            kernel(&path)
        };
        Modules::new(index, self.root.path().join("sys"), Box::new(insert))
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

const VIRTIO_PCI: (&str, &str) =
    ("pci0/0000:00:03.0", "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00");
const E1000: (&str, &str) = ("pci0/0000:00:04.0", "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00");
const REALTEK: (&str, &str) = ("pci0/0000:00:05.0", "pci:v000010ECd00008168sv00001AF4sd00001100bc02sc00i00");

#[test]
fn a_bus_driver_brings_the_device_behind_it() {
    let machine = Machine::new(&[VIRTIO_PCI]);
    let behind = machine.root.path().join("sys/devices/pci0/0000:00:03.0/virtio0");
    let mut modules = machine.modules(move |path| {
        if path == "virtio/virtio_pci.ko" {
            fs::create_dir_all(&behind)?;
            fs::write(behind.join("modalias"), "virtio:d00000001v00001AF4\n")?;
        }
        Ok(())
    });
    assert_eq!(
        modules.look_once().iter().map(|l| l.module.as_str()).collect::<Vec<_>>(),
        ["virtio", "virtio_ring", "virtio_pci"]
    );
    let second = modules.look_once();
    assert_eq!(second.len(), 3);
    assert!(second.iter().all(|l| l.device == Path::new("pci0/0000:00:03.0/virtio0")), "{second:?}");
    assert_eq!(
        machine.calls(),
        [
            "virtio/virtio.ko.xz",
            "virtio/virtio_ring.ko",
            "virtio/virtio_pci.ko",
            "net/failover.ko",
            "net/net_failover.ko",
            "net/virtio-net.ko.zst",
        ]
    );
    assert_eq!(modules.look_once(), []);
}

#[test]
fn soft_dependencies_and_options_are_heeded() {
    let machine = Machine::new(&[REALTEK, E1000]);
    machine.modules(|_| Ok(())).look_once();
    assert_eq!(
        machine.calls(),
        ["net/e1000.ko debug=16 copybreak=0", "net/phy.ko", "net/r8169.ko", "net/late.ko"]
    );
}

#[test]
fn a_keyboard_is_driven_by_way_of_its_bus() {
    let keyboard = ("usb1/1-1/1-1:1.0", "usb:v046DpC31Cd6402dc00dsc00dp00ic03isc01ip01in00");
    let machine = Machine::new(&[keyboard]);
    let behind = machine.root.path().join("sys/devices/usb1/1-1/1-1:1.0/0003:046D:C31C.0001");
    let mut modules = machine.modules(move |path| {
        if path == "hid/usbhid.ko" {
            fs::create_dir_all(&behind)?;
            fs::write(behind.join("modalias"), "hid:b0003g0001v0000046Dp0000C31C\n")?;
        }
        Ok(())
    });
    modules.look_once();
    modules.look_once();
    assert_eq!(machine.calls(), ["hid/hid.ko", "hid/usbhid.ko", "hid/hid-generic.ko"]);
}

#[test]
fn the_command_line_has_options_and_a_blacklist() {
    let machine = Machine::new(&[REALTEK, E1000]);
    let mut modules = machine.modules(|_| Ok(()));
    let line = "BOOTIF=01-x ka.debug modprobe.blacklist=r8169,late e1000.InterruptThrottleRate=0 e1000.on unknown.x=1";
    modules.index.read_command_line(line);
    modules.look_once();
    assert_eq!(machine.calls(), ["net/e1000.ko debug=16 copybreak=0 InterruptThrottleRate=0 on"]);
}

#[test]
fn what_is_blacklisted_built_in_or_loaded_is_left_alone() {
    let machine = Machine::new(&[("a", "pci:v000010DEd0"), ("b", "acpi:BUILT:"), E1000]);
    machine.file("sys/module/e1000/initstate", "live\n");
    let mut modules = machine.modules(|_| Ok(()));
    assert_eq!(modules.look_once(), []);
    assert_eq!(machine.calls(), Vec::<String>::new());
    modules.load("nouveau").unwrap();
    modules.load("builtin-one").unwrap();
    assert_eq!(machine.calls(), ["gpu/nouveau.ko"]);
}

#[test]
fn a_module_that_fails_does_not_stop_the_others() {
    let machine = Machine::new(&[VIRTIO_PCI, E1000]);
    let mut modules = machine.modules(|path| match path {
        "virtio/virtio_ring.ko" => Err(rustix::io::Errno::NOEXEC.into()),
        _ => Ok(()),
    });
    let loaded = modules.look_once();
    assert!(loaded.iter().any(|l| l.module == "e1000"), "{loaded:?}");
    assert!(!loaded.iter().any(|l| l.module == "virtio_pci"), "{loaded:?}");
    let error = modules.load("virtio_pci").unwrap_err().to_string();
    assert_eq!(error, "module virtio_pci: needs virtio_ring, which is not loaded");
    let error = modules.load("virtio_ring").unwrap_err().to_string();
    assert!(error.contains("virtio_ring.ko") && error.contains("os error 8"), "{error}");
    assert!(matches!(modules.load("nosuch"), Err(ModuleError::Unknown(name)) if name == "nosuch"));
}

#[test]
fn a_module_that_failed_is_not_tried_for_each_device() {
    let machine = Machine::new(&[E1000, ("pci0/0000:00:06.0", E1000.1)]);
    let mut modules = machine.modules(|_| Err(rustix::io::Errno::NODEV.into()));
    assert_eq!(modules.look_once(), []);
    assert_eq!(machine.calls().len(), 1);
    modules.load("e1000").unwrap_err();
    assert_eq!(machine.calls().len(), 1);
}

#[test]
fn links_in_sysfs_are_not_followed() {
    let machine = Machine::new(&[E1000]);
    let devices = machine.root.path().join("sys/devices");
    symlink("..", devices.join("pci0/0000:00:04.0/subsystem")).unwrap();
    assert_eq!(machine.modules(|_| Ok(())).look_once().len(), 1);
}

#[test]
fn a_missing_list_is_named() {
    let machine = Machine::new(&[]);
    let error = ModuleError::Index(Index::read(machine.root.path(), "7").unwrap_err()).to_string();
    assert!(error.contains("lib/modules/7/modules.dep"), "{error}");
}
