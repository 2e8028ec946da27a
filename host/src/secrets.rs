//! Keys in memory stay there.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, geteuid, getrlimit, set_dumpable_behavior, setrlimit,
};

/// Has the kernel write no image of this process's memory, in which keys and file contents are. A program that handles
/// core files gets them whatever the limit says (core(5)), so root's processes say that they are not to be dumped at all;
/// others need their own files in /proc.
pub fn keep_from_core_dumps() {
    let limit = Rlimit { current: Some(0), ..getrlimit(Resource::Core) };
    if let Err(error) = setrlimit(Resource::Core, limit) {
        log::warn!("a core dump of this process would hold its keys: {error}");
    }
    if geteuid().is_root()
        && let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable)
    {
        log::warn!("a core dump of this process would hold its keys: {error}");
    }
}
