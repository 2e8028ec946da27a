//! The steps of a node's work, in one list: for display, for failures, and for programs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Defines the steps, each with its name for programs and its words for display.
macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident = $name:literal, $words:literal;)*) => {
        /// A step of a node's work.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Step {
            $($(#[$doc])* $step,)*
        }

        impl Step {
            /// All steps, roughly in the order of a node's work.
            pub const ALL: &[Self] = &[$(Self::$step),*];

            /// The name in every output for programs. It never changes.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$step => $name,)*
                }
            }

            /// The words for display.
            #[must_use]
            pub fn words(self) -> &'static str {
                match self {
                    $(Self::$step => $words,)*
                }
            }
        }
    };
}

steps! {
    /// Nothing has been reported yet.
    Begin = "begin", "begin";
    /// Stage1 reads the kernel command line.
    CommandLine = "command_line", "kernel command line";
    /// Stage1 loads the network drivers.
    Drivers = "drivers", "drivers";
    /// Stage1 gets an address.
    Network = "network", "network";
    /// Stage1 looks for its run's controller.
    FindController = "find_controller", "find the controller";
    /// The tree of tools is received into memory.
    ReceiveStage2 = "receive_stage2", "receive stage2";
    /// The tree of tools becomes the root file system.
    EnterStage2 = "enter_stage2", "enter stage2";
    /// The drivers for disks and file systems.
    StorageDrivers = "storage_drivers", "storage drivers";
    /// The node joins its run.
    Join = "join", "join the session";
    /// The node waits to be admitted.
    WaitForPlan = "wait_for_plan", "wait for the plan";
    /// The control connection.
    Connection = "connection", "connection";
    /// The node's own side of the session.
    Session = "session", "session";
    /// The controller checks the node's report.
    CheckMachine = "check_disks", "check the disks";
    /// The node checks the plan.
    Plan = "plan", "plan";
    /// All work on the disks before the stream.
    PrepareDisks = "prepare_disks", "prepare the disks";
    /// The node checks its disks itself.
    ClaimDisks = "claim_disks", "Check the disks";
    /// A disk's partition table.
    WriteTable = "write_table", "Write the partition table";
    /// One file system.
    MakeFileSystem = "make_file_system", "Make a file system";
    /// One volume group with its logical volumes.
    MakeVolumeGroup = "make_volume_group", "Make a volume group";
    /// All new file systems are mounted.
    MountFileSystems = "mount_file_systems", "Mount the new file systems";
    /// Files that firmware could start are held back until the copy is complete.
    HoldBack = "hold_back", "hold back the EFI system partition";
    /// The node is ready, and waits for the others.
    WaitForNodes = "wait_for_nodes", "wait for the other nodes";
    /// The node receives the stream.
    Receive = "receive", "receive";
    /// The stream of the golden system.
    ReceiveSystem = "receive_system", "receive the system";
    /// The golden node opens the stream.
    Start = "start", "start";
    /// The golden node's relay.
    Relay = "relay", "relay";
    /// The golden node reads the source.
    Source = "source", "source";
    /// The node's place among its neighbours.
    Chain = "chain", "chain";
    /// The whole stream has been received, and part of it is not on the disk yet.
    WriteOut = "write_out", "write everything out";
    /// All work that makes the copy bootable.
    Finish = "finish", "finish";
    /// A part of the finish.
    NoteTimes = "note_times", "Note the times of the files";
    /// A part of the finish.
    NameDevices = "name_devices", "Name the devices";
    /// A part of the finish.
    EnterCopy = "enter_copy", "Enter the copied system";
    /// A part of the finish.
    OpenAgent = "open_agent", "Open the agent";
    /// A part of the finish.
    ReadNames = "read_names", "Read the golden node's names";
    /// A part of the finish.
    RewriteFstab = "rewrite_fstab", "Rewrite fstab";
    /// A part of the finish.
    SwapFiles = "swap_files", "Recreate swap files";
    /// A part of the finish.
    RewriteNames = "rewrite_names", "Rewrite other names of file systems";
    /// A part of the finish.
    LvmFiles = "lvm_files", "Rewrite LVM's files";
    /// A part of the finish.
    GrubDisk = "grub_disk", "Name the disk that GRUB is installed on";
    /// A part of the finish.
    ShowCommandLine = "show_command_line", "Show the node's own command line";
    /// A part of the finish.
    NameNode = "name_node", "Name the node";
    /// A part of the finish.
    RewriteNetwork = "rewrite_network", "Rewrite the network's configuration";
    /// A part of the finish.
    Identity = "identity", "Give the node an identity of its own";
    /// A part of the finish.
    NameDrivers = "name_drivers", "Name this node's drivers";
    /// A part of the finish.
    PrepareFirstBoot = "prepare_first_boot", "Prepare the first boot";
    /// A part of the finish.
    SiteSteps = "site_steps", "Run the site's own steps";
    /// A part of the finish.
    Initrd = "initrd", "Rebuild the initrd";
    /// A part of the finish.
    BootLoader = "boot_loader", "Install the boot loader";
    /// A part of the finish.
    SearchNames = "search_names", "Search for the golden node's names";
    /// A part of the finish.
    LeaveCopy = "leave_copy", "Leave the copied system";
    /// A part of the finish.
    KeepTimes = "keep_times", "Keep the times of unchanged files";
    /// A part of the finish.
    Sync = "sync", "Write everything out";
    /// The kernel that `--boot kexec` starts.
    LoadKernel = "load_kernel", "load the installed kernel";
    /// Files get their flags against changes again.
    Immutable = "immutable", "make files immutable again";
    /// The files that were held back are moved into place.
    Uncover = "uncover", "uncover the EFI system partition";
    /// The new file systems are unmounted.
    Unmount = "unmount", "unmount the new file systems";
    /// The disks are compared with the written data.
    ReadBack = "read_back", "read back what is on the disks";
    /// The last writes, which make the disk bootable.
    Activate = "activate", "make the disk bootable";
    /// The node waits for another attempt.
    WaitForRound = "wait_for_round", "wait for another round";
    /// The node has finished, and leaves.
    Leave = "leave", "take leave of the controller";
    /// The log is sent to a server.
    StoreLog = "store_log", "store the log";
    /// The copy runs from its own disk.
    FirstBoot = "first_boot", "first boot";
}

impl Step {
    /// The step with its object: a device, a tool or a file.
    #[must_use]
    pub fn of(self, what: impl fmt::Display) -> Doing {
        Doing { step: self, what: what.to_string() }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// A node's current activity: a step and its object, which is a device, a tool or a file. The object is empty
/// if the step alone says everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doing {
    /// The step.
    pub step: Step,
    /// The object.
    pub what: String,
}

impl From<Step> for Doing {
    fn from(step: Step) -> Self {
        Self { step, what: String::new() }
    }
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, what } = self;
        match step {
            _ if what.is_empty() => write!(f, "{step}"),
            Step::Join => write!(f, "{step} {what}"),
            Step::WriteTable => write!(f, "{step} of {what}"),
            Step::MakeFileSystem => write!(f, "Make {what}"),
            Step::MakeVolumeGroup => write!(f, "Make the volume group {what}"),
            _ => write!(f, "{step}: {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_step_has_a_name_of_its_own_that_programs_can_use() {
        let names: BTreeSet<&str> = Step::ALL.iter().map(|step| step.name()).collect();
        assert_eq!(names.len(), Step::ALL.len());
        let plain =
            |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        assert_eq!(names.iter().filter(|name| !plain(name)).count(), 0, "{names:?}");
    }

    #[test]
    fn a_person_reads_a_sentence() {
        let doing = |step: Step, what| step.of(what).to_string();
        assert_eq!(doing(Step::WriteTable, "sda"), "Write the partition table of sda");
        assert_eq!(doing(Step::MakeFileSystem, "ext4 on /dev/sda1"), "Make ext4 on /dev/sda1");
        assert_eq!(doing(Step::Join, "kainstall"), "join the session kainstall");
        assert_eq!(doing(Step::Initrd, "update-initramfs -u"), "Rebuild the initrd: update-initramfs -u");
        assert_eq!(doing(Step::Receive, ""), "receive");
    }
}
