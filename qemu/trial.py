"""One run of one scenario, the same for all: golden machine, nodes, cloning, and then the questions."""

import contextlib
import shutil
import time
from dataclasses import dataclass

import check
import clone
import golden
import manifest
import node as nodes_module
import product
import site_dhcp
import systems
from image import Disk
from network import network
from place import CACHE, DISKS, HERE, LOGS, MANIFESTS, SOURCE, look_for_tools
from shell import ToolFailed, run
from vm import Drive, VmTrouble, machine, new_variables

GOLDEN_MEMORY = 2048  # MiB
GOLDEN_MAC = "52:54:00:77:00:01"
GOLDEN_CARD = {"memory": GOLDEN_MEMORY, "cpus": 2, "mac": GOLDEN_MAC}


@dataclass
class Before:
    """The golden machine before the run."""

    tree: dict
    kernel: str
    size: int  # of its files as a tar
    identity: clone.Identity
    marks: clone.Marks


class Trial:
    """One run of one scenario."""

    def __init__(self, scenario, report):
        self.scenario = scenario
        self.golden = scenario.golden
        self.report = report
        self.golden_disks = [Disk(DISKS / f"golden-{number}.img", disk.sector)
                             for number, disk in enumerate(self.golden.disks)]
        self.nodes = []
        self.expected = {}
        self.wire = self.server = self.outcome = None
        self.vms = {}  # the running machines of the nodes, while the run goes on

    def carry_out(self, count):
        with self.report.step("Is everything there"):
            look_for_tools()
        self.before = self.make_golden()
        self.make_nodes(count)
        self.clone_all()
        foreign = self.read_foreign_trees()
        self.check_golden_afterwards(foreign[0])
        self.check_disks(foreign[1:])
        systems.check_all(self)
        self.hook("at_the_end")

    def hook(self, name):
        """What the scenario adds at this point, if anything."""
        function = self.scenario.hook(name)
        if function:
            function(self)

    # -- before -----------------------------------------------------------------------------

    def make_golden(self):
        """The golden disks with ka installed, and what is to be known about them before the run."""
        with self.report.step("Golden disk with Debian"):
            self.image = golden.prepare(CACHE, self.golden)
            self.report.note(f"{'made' if self.image.new else 'kept from an earlier run'}: {self.image.kept.parent.name}")
            for made, disk in zip(self.image.disks, self.golden_disks):
                run("cp", "--sparse=always", made, disk.path)
        with self.report.step("ka on the golden disk"):
            with clone.root(self.golden_disks, self.golden, write=True) as root:
                product.install(SOURCE, root)
        with self.report.step("Manifest of the golden tree"):
            foreign = {at: manifest.load(self.image.kept / f"{manifest.file_name(at)}.jsonl")
                       for at in self.foreign_places()}
            tree = clone.tree(self.golden_disks, self.golden, foreign)
            with clone.root(self.golden_disks, self.golden) as root:
                kernel = golden.kernel_version(root)
            size = self.size_as_tar(foreign)
            manifest.save(tree, MANIFESTS / "golden-before.jsonl")
            self.report.note(f"{len(tree)} paths, {size / 1e6:.1f} MB as a tar, kernel {kernel}")
        identity = clone.identify(self.golden_disks, self.golden)
        return Before(tree, kernel, size, identity, clone.marks(self.golden_disks, self.golden))

    def foreign_places(self):
        return [mount.at for _, mount in self.golden.mounts() if not mount.volume.on_the_host]

    def size_as_tar(self, foreign):
        """The size of the tar that GNU tar makes of the tree; what cannot be mounted here is reckoned."""
        size = 0
        for index, mount in self.golden.mounts():
            if mount.at in foreign:
                size += manifest.data_size(foreign[mount.at])
                continue
            with clone.mounted(self.golden_disks, index, mount) as folder:
                size += int(run("bash", "-o", "pipefail", "-c", '"$@" | wc -c', "bash", "tar", "-C", folder,
                                "--one-file-system", "--sparse", "--format=posix", "--xattrs", "--xattrs-include=*",
                                "-c", "."))
        return size

    def make_nodes(self, count):
        with self.report.step(f"Used disks for {count} nodes"):
            for number, hardware in enumerate(self.scenario.nodes(count), start=1):
                self.nodes.append(nodes_module.make(number, hardware, DISKS))
                self.report.cell(f"node{number}", "disk", hardware.told())

    # -- the run ----------------------------------------------------------------------------

    def clone_all(self):
        """The run itself: the golden VM serves, the nodes boot by PXE and end when they are done."""
        with contextlib.ExitStack() as resources:
            self.resources = resources
            self.wire = resources.enter_context(network())
            if self.scenario.site_dhcp:
                resources.enter_context(site_dhcp.server(self.wire, LOGS))
            with self.report.step("Golden machine boots"):
                self.boot_golden(self.golden_variables())
            self.hook("before_images")
            with self.report.step("kactl init, desc and image"):
                self.describe_and_make_images()
            try:
                self.hook("before_run")
                with self.report.step("kactl pxe, and kactl run until it waits"):
                    product.serve_pxe(self.server, self.scenario.pxe_options, self.golden.serves_on)
                    product.start_run(self.server, len(self.nodes), self.scenario.selections,
                                      self.scenario.run_options)
                with self.report.step(f"{len(self.nodes)} nodes boot by PXE and are cloned"):
                    already = sum(self.wire.traffic("golden"))
                    self.outcome = self.wait_for_clones()
                    self.judge_run(sum(self.wire.traffic("golden")) - already)
                self.hook("after_run")
            finally:
                with contextlib.suppress(VmTrouble):
                    for name, text in product.logs(self.server).items():
                        (LOGS / f"ka-{name}").write_text(text, errors="surrogateescape")
            with self.report.step("Golden machine powers off"):
                self.server.power_off()

    def boot_golden(self, variables=None):
        """The golden machine comes up."""
        self.server = self.resources.enter_context(machine(
            "golden", self.golden_drives(), LOGS, network=self.wire, uefi=variables,
            second_mac=self.golden.second_mac, **GOLDEN_CARD))
        self.server.wait_ready()

    def reset_golden(self):
        """The golden machine loses its power, and boots again."""
        self.server.kill()
        self.boot_golden()

    def golden_drives(self):
        return [Drive(own.path, sector=own.sector, serial=disk.serial)
                for own, disk in zip(self.golden_disks, self.golden.disks)]

    def golden_variables(self):
        return new_variables(DISKS / "golden.vars") if self.golden.uefi else None

    def describe_and_make_images(self):
        product.init(self.server)
        for name in dict.fromkeys(selection.golden for selection in self.scenario.selections):
            for line in product.describe(self.server, name).splitlines():
                self.report.note(f"desc {name}: {line}")
        sizes, seconds = product.make_image(self.server)
        for name, size in sizes.items():
            self.report.note(f"{name}: {size / 1e6:.1f} MB")
            self.report.figure(name, f"{size / 1e6:.1f} MB")
        # Only told: a busy host must not make a test fail.
        self.report.figure("kactl image took", f"{seconds:.1f} s")

    def boot_by_pxe(self, node):
        """A node's machine, which asks the network first."""
        return self.resources.enter_context(machine(
            node.name, node.drives(), LOGS, network=self.wire, mac=node.mac, pxe=True, card=node.hardware.card,
            stays=not self.scenario.ends, **node.options()))

    def wait_for_clones(self):
        """Boot all nodes, and wait until the run has ended and each node has powered off or rebooted."""
        self.hook("before_nodes")
        started = time.monotonic()
        deadline = self.server.clock.now() + product.RUN_PATIENCE * self.scenario.streams
        self.vms = {} if self.scenario.woken else {node.name: self.boot_by_pxe(node) for node in self.nodes}
        working = [node.name for node in self.nodes] if self.scenario.ends else []
        outcome, heard, told = None, "", started
        while working or outcome is None:
            self.hook("meanwhile")
            for vm in self.vms.values():
                vm.check()
            for name in [name for name in working if name in self.vms and not self.vms[name].running()]:
                working.remove(name)
                seconds = time.monotonic() - started
                self.report.note(f"{name} ended after {seconds:.1f} s")
                self.report.cell(name, "PXE to end", f"{seconds:.1f} s")
            outcome = outcome or product.poll_run(self.server)
            if outcome and outcome.status not in (0, 1):
                return outcome
            if time.monotonic() - told > 15:
                told, words = time.monotonic(), product.last_words(self.server)
                if words != heard:
                    self.report.note(f"kactl: {words}")
                heard = words
            if self.server.clock.now() > deadline:
                waiting = " ".join(working) or "kactl run"
                raise VmTrouble(f"no end of {waiting} after {time.monotonic() - started:.0f} s; see {LOGS}")
            time.sleep(0.5)
        for vm in self.vms.values() if self.scenario.ends else ():
            vm.wait_end()
        return outcome

    def judge_run(self, on_wire):
        """What kactl said of its run, and what went over the golden node's wire."""
        outcome, size = self.outcome, self.before.size
        right = outcome.status == self.scenario.expect_status
        said = [] if right else [f"exit status {outcome.status}: {outcome.log.strip()[-2000:]}"]
        self.report.found("golden", "kactl run", said)
        for name in ("data_bytes", "wire_bytes", "transfer_seconds", "drain_seconds", "throughput_mb_s"):
            if name in outcome.report:
                self.report.figure(f"kactl run: {name}", outcome.report[name])
        share = on_wire / size
        self.report.figure("bytes on the golden node's wire, both ways, with PXE and stage2",
                           f"{on_wire / 1e6:.1f} MB, {share:.0%} of the tar's {size / 1e6:.1f} MB")
        # How well the stream is compressed, and how often a node comes again, depends on how busy this machine is. A bar
        # is in `make bench`; the clones are right or wrong by their disks.
        if share > 1:
            self.report.note(f"{share:.0%} of the tar's size went over the wire: some of it more than once")

    # -- the disks --------------------------------------------------------------------------

    def sound_nodes(self):
        return [node for node in self.nodes if node.name not in self.scenario.failing]

    def read_foreign_trees(self):
        """What only a workbench reads, of the golden machine and then of each sound node."""
        nodes = self.sound_nodes()
        whole = [node for node in nodes if not clone.table_faults(node.disks, self.golden)]
        if not self.foreign_places():
            return [{} for _ in ("golden", *nodes)]
        with self.report.step("File systems that the host cannot mount"):
            golden_trees, *trees = clone.foreign_trees(
                CACHE, [self.golden_disks, *(node.disks for node in whole)], self.golden, LOGS)
        read = dict(zip((node.name for node in whole), trees))
        return [golden_trees, *(read.get(node.name, {}) for node in nodes)]

    def check_golden_afterwards(self, foreign):
        """The golden tree is as before, and is what the clones are compared with."""
        with self.report.step("Golden tree afterwards"):
            self.report.found("golden", "table and fs", clone.sound(self.golden_disks, self.golden))
            self.expected = clone.tree(self.golden_disks, self.golden, foreign)
            with clone.root(self.golden_disks, self.golden) as root:
                if (root / "var/log/ka").is_dir():
                    shutil.copytree(root / "var/log/ka", LOGS / "var-log-ka")
            manifest.save(self.expected, MANIFESTS / "golden-after.jsonl")
            self.report.found("golden", "tree", check.compare(
                self.before.tree, self.expected, self.exemptions("exceptions-golden.txt")))

    def exemptions(self, *names):
        own = HERE / "scenarios" / f"exceptions-{self.scenario.name}.txt"
        lists = [HERE / name for name in names]
        if names[0] == "exceptions.txt":
            lists += [HERE / "exceptions-names.txt", *([own] if own.exists() else [])]
        return check.load_all(lists, self.before.kernel)

    def check_disks(self, foreign):
        """The clones as the run left them, before they boot: what a first boot changes can hide nothing."""
        exemptions = self.exemptions("exceptions.txt")
        for node, trees in zip(self.sound_nodes(), foreign):
            with self.report.step(f"{node.name}: its disk before it boots"):
                self.check_disk(node, trees, exemptions)
        identities = {node.name: node.identity for node in self.nodes if node.identity} | {"golden": self.before.identity}
        if len(identities) > 1:
            ids = {f"{name} {place}": value for name, identity in identities.items() for place, value in identity}
            self.report.found("all", "own UUIDs", systems.shared_ids(ids))

    def check_disk(self, node, trees, exemptions):
        report = self.report
        if not report.found(node.name, "table", clone.table_faults(node.disks, self.golden)):
            return
        try:
            identity = clone.identify(node.disks, self.golden)
        except ToolFailed as error:
            report.found(node.name, "identity", [str(error)])
            return
        node.identity = identity
        report.found(node.name, "fsck", clone.file_system_faults(node.disks, self.golden))
        own_exemptions = self.scenario.hook("exemptions")
        if own_exemptions:
            exemptions = [*exemptions, *own_exemptions(node)]
        found = clone.tree(node.disks, self.golden, trees)
        manifest.save(found, MANIFESTS / f"{node.name}.jsonl")
        differences, unneeded = clone.tree_faults(found, self.expected, exemptions)
        report.found(node.name, "tree", differences)
        for exemption in unneeded:
            report.note(f"not needed for {node.name}: {exemption.path} {exemption.mark}")
        report.found(node.name, "fstab", clone.fstab_faults(node.disks, self.golden, identity))
