"""One virtual machine, and how to talk to it.

Always TCG, never KVM: results must be the same on a host without hardware
virtualisation. Two ways in: the serial console, which is logged, and a virtio-serial
port on which a service of the golden system runs commands (golden-root/).
VMs share few cores and may stall for seconds, so everything waits for a condition with
a deadline on the machine's own clock, which only a hung machine meets.
"""

import base64
import contextlib
import itertools
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from clock import Clock

PATIENCE = 600  # seconds of the machine's own time; far more than the slowest step of a healthy one
OVMF = "/usr/share/OVMF/OVMF"
# After these words on a console, nothing good comes any more.
LOST = (
    "Kernel panic - not syncing", "STALE BOOT CODE RAN", "grub rescue>", "No bootable device",
    "Gave up waiting for root", "You are in emergency mode", "UEFI Interactive Shell",
)


class VmTrouble(Exception):
    """A VM died, hung or panicked; the text names its log."""


@dataclass(frozen=True)
class Drive:
    """A disk of a virtual machine."""

    path: Path | str  # an image, or the address of a server
    bus: str = "virtio"  # virtio, nvme, ahci or scsi
    serial: str | None = None  # without one, the machine's name
    sector: int = 512
    read_only: bool = False
    kept: bool = True  # without it, what is written is gone with the machine
    cache: str = "unsafe"  # QEMU's: unsafe passes no flush on


# The controller that a bus needs, and the device on it.
BUSES = {
    "virtio": ((), "virtio-blk-pci"),
    "nvme": ((), "nvme"),
    "ahci": (("ahci,id=ahci",), "ide-hd,bus=ahci.{number}"),
    "scsi": (("virtio-scsi-pci,id=scsi",), "scsi-hd,bus=scsi.0"),
}


@dataclass(frozen=True)
class Kernel:
    """A kernel that is booted without the help of any disk."""

    vmlinuz: Path
    initrd: Path
    words: str


class Vm:
    """A QEMU process with disks, maybe a network card, a console log and a command port.

    With `uefi`, the path of its own copy of OVMF's variables, it has that firmware instead of SeaBIOS.
    """

    def __init__(self, name, drives, logs, *, memory, cpus=1, network=None, mac=None, pxe=False,
                 card="virtio-net-pci", uefi=None, kernel=None, stays=False, second_mac=None):
        self.name = name
        self.log = Path(logs) / f"{name}.log"
        # A machine that is started again keeps what it said before.
        if self.log.exists():
            self.log.rename(next(path for path in (self.log.with_suffix(f".{n}.log") for n in itertools.count(1))
                                 if not path.exists()))
        self._folder = tempfile.TemporaryDirectory(prefix="ka-vm-")
        self._port_path = Path(self._folder.name) / "commands"
        self._serial_path = Path(self._folder.name) / "serial"
        self._received = b""
        self._number = 0
        command = [
            # qemu64 has no AES and no AVX, which TCG emulates ten times slower than plain code.
            "qemu-system-x86_64", "-name", self.name, "-machine", "pc", "-accel", "tcg,thread=multi", "-cpu", "qemu64",
            "-m", str(memory), "-smp", str(cpus), "-nodefaults", "-nographic",
            "-chardev", f"socket,id=serial,path={self._serial_path},server=on,wait=off,logfile={self.log}",
            "-serial", "chardev:serial",
            "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=commands,path={self._port_path},server=on,wait=off",
            "-device", "virtserialport,chardev=commands,name=test.commands",
            "-device", "virtio-rng-pci",
            *([] if stays else ["-no-reboot"]),
            # SeaBIOS asks QEMU for the order; UEFI has its own, which QEMU's would overwrite.
            *self._drives(drives, ordered=not uefi), *self._network(network, mac, card, pxe, bool(uefi)),
            *(_second_card(second_mac) if network and second_mac else ()),
            *_firmware(uefi), *_kernel(kernel),
        ]
        if network:
            command = network.inside(*command)
        self._errors = open(self.log.with_suffix(".qemu"), "wb")
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._errors, stderr=self._errors,
            preexec_fn=on_one_processor if any(drive.bus == "nvme" for drive in drives) else None)
        self.clock = Clock(self._process.pid)
        self._port = self._connect()

    def _drives(self, drives, ordered):
        controllers, devices = {}, []
        for number, drive in enumerate(drives):
            needs, device = BUSES[drive.bus]
            controllers |= dict.fromkeys(needs)
            options = (f",read-only={'on' if drive.read_only else 'off'}"
                       f",snapshot={'off' if drive.kept or drive.read_only else 'on'}")
            block = f",logical_block_size={drive.sector},physical_block_size={drive.sector}"
            devices += [
                "-drive", f"if=none,id=disk{number},file={drive.path},format=raw,cache={drive.cache},discard=unmap{options}",
                "-device", f"{device.format(number=number)},drive=disk{number},serial={drive.serial or self.name}"
                           + (f",bootindex={number + 2}" if ordered else "") + (block if drive.sector != 512 else ""),
            ]
        return [word for device in controllers for word in ("-device", device)] + devices

    def _network(self, network, mac, card, pxe, uefi):
        if not network:
            return []
        # OVMF has a driver of its own for virtio's card, and QEMU's ROM would be a second one.
        own_driver = uefi and card == "virtio-net-pci"
        boots = ("" if uefi else ",bootindex=1") + (",romfile=" if own_driver else "")
        return [
            "-netdev", f"tap,id=net,ifname={network.tap(self.name)},script=no,downscript=no",
            "-device", f"{card},netdev=net,mac={mac}" + (boots if pxe else ",romfile="),
        ]

    def _connect(self):
        deadline = self.clock.now() + PATIENCE
        port = socket.socket(socket.AF_UNIX)
        while True:
            try:
                port.connect(str(self._port_path))
                return port
            except (FileNotFoundError, ConnectionRefusedError):
                self._still_well("opening its command port", deadline)
                time.sleep(0.05)

    # -- the console ------------------------------------------------------------------------

    def console(self):
        """Everything that the serial console has said so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait_for_console(self, text, patience=PATIENCE):
        """Wait until the console has said `text`."""
        deadline = self.clock.now() + patience
        while text not in self.console():
            self._still_well(f"saying {text!r} on its console", deadline)
            time.sleep(0.2)

    # -- commands ---------------------------------------------------------------------------

    def wait_ready(self, patience=PATIENCE):
        """Wait until the system is up and listens for commands."""
        self._read_line("coming up", self.clock.now() + patience, want="ready")

    def start(self, command):
        """Send a shell command; `finish` waits for it. One at a time."""
        self._number += 1
        self._port.sendall(b"%d %s\n" % (self._number, base64.b64encode(command.encode())))

    def finish(self, patience=PATIENCE):
        """Wait for the started command: its exit status and everything it printed."""
        line = self._read_line("finishing a command", self.clock.now() + patience, want=f"{self._number} ")
        _, status, output = line.split(" ", 2)
        return int(status), base64.b64decode(output).decode(errors="surrogateescape")

    def run(self, command, patience=PATIENCE):
        """Run a shell command to its end."""
        self.start(command)
        return self.finish(patience)

    def must(self, command, patience=PATIENCE):
        """Run a shell command that has to succeed, and return its output."""
        status, output = self.run(command, patience)
        if status != 0:
            raise VmTrouble(f"{self.name}: `{command}` exited with {status}: {output.strip()}")
        return output

    def _read_line(self, doing, deadline, want):
        while True:
            while b"\n" in self._received:
                line, self._received = self._received.split(b"\n", 1)
                text = line.decode().strip("\r\0")
                if text.startswith(want):
                    return text
            self._port.settimeout(1)
            try:
                data = self._port.recv(1 << 16)
            except TimeoutError:
                data = None
            if data:
                self._received += data
            elif data == b"":
                self._process.wait(PATIENCE)
            if not data:
                self._still_well(doing, deadline)

    # -- its end ----------------------------------------------------------------------------

    def running(self):
        return self._process.poll() is None

    def wait_end(self, patience=PATIENCE):
        """Wait until the machine has powered off, or rebooted, which ends it as well."""
        deadline = self.clock.now() + patience
        while self.running():
            self.check()
            if self.clock.now() > deadline:
                raise VmTrouble(f"{self.name}: did not end; see {self.log}")
            time.sleep(0.2)
        self.check()
        if self._process.returncode != 0:
            raise VmTrouble(f"{self.name}: QEMU exited with {self._process.returncode}; see {self._errors.name}")

    def power_off(self, command="systemctl poweroff"):
        """Ask the system to shut down, and wait until it has."""
        self.start(command)
        self.wait_end()

    def kill(self):
        """End the process if it still runs. Nothing else is ever signalled."""
        if self.running():
            self._process.kill()
        self._process.wait()
        self._port.close()
        self._errors.close()
        self._folder.cleanup()

    def _still_well(self, doing, deadline):
        self.check()
        if not self.running():
            raise VmTrouble(f"{self.name}: ended before {doing}; see {self.log} and {self._errors.name}")
        if self.clock.now() > deadline:
            raise VmTrouble(f"{self.name}: hung before {doing}; see {self.log}")

    def check(self):
        """Raise if the console shows that the machine can only be lost."""
        said = self.console()
        for words in LOST:
            if words in said:
                raise VmTrouble(f"{self.name}: {words!r} on its console; see {self.log}")


def on_one_processor():
    """For NVMe: QEMU 7 and 8 lack a barrier between publishing how far they have read a queue and looking for more, and
    with their threads on two processors a guest's doorbell gets lost now and then. The disk hangs then, for good."""
    os.sched_setaffinity(0, {random.choice(sorted(os.sched_getaffinity(0)))})


def _second_card(mac):
    """A card on a hub where nothing else is."""
    return ["-netdev", "hubport,id=second,hubid=1", "-device", f"virtio-net-pci,netdev=second,mac={mac},romfile="]


def _firmware(variables):
    if not variables:
        return []
    return [
        "-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={OVMF}_CODE_4M.fd",
        "-drive", f"if=pflash,format=raw,unit=1,file={variables}",
    ]


def new_variables(path):
    """What OVMF remembers, as it is when the machine is new."""
    shutil.copyfile(f"{OVMF}_VARS_4M.fd", path)
    return path


def _kernel(kernel):
    if not kernel:
        return []
    return ["-kernel", str(kernel.vmlinuz), "-initrd", str(kernel.initrd), "-append", kernel.words]


@contextlib.contextmanager
def machine(name, drives, logs, **options):
    """A VM that is surely gone afterwards."""
    vm = Vm(name, drives, logs, **options)
    try:
        yield vm
    finally:
        vm.kill()
