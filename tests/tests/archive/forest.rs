//! Generated trees with every kind of file.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

/// One file to create.
#[derive(Clone, Debug)]
pub(crate) struct Plant {
    parent: Index,
    name: Vec<u8>,
    what: What,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    acl: Option<(u32, u16)>,
}

#[derive(Clone, Debug)]
enum What {
    Directory,
    File(Vec<u8>),
    Sparse { data: Vec<(u64, u16)>, tail: u64 },
    Symlink(Vec<u8>),
    HardLink(Index),
    Fifo,
    Char(u32, u32),
    Block(u32, u32),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|b| if b == 0 || b == b'/' { b'\n' } else { b });
    let short = vec(select(b"abcXYZ019 ._-%=~".to_vec()), 1..12);
    let utf8 = "[äöü€漢字]{1,9}".prop_map(String::into_bytes);
    prop_oneof![3 => short, 1 => utf8, 2 => vec(byte.clone(), 1..20), 1 => vec(byte, 110..255)]
        .prop_map(|name| if name == b"." || name == b".." { b"dots".to_vec() } else { name })
}

fn target() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![name(), vec(1..=255_u8, 100..3000)]
}

fn what() -> impl Strategy<Value = What> {
    let sparse = (vec((0..60_u64, 1..9000_u16), 0..6), 0..40_u64)
        .prop_map(|(data, tail)| What::Sparse { data, tail: tail * 4099 });
    prop_oneof![
        6 => Just(What::Directory),
        6 => vec(any::<u8>(), 0..3000).prop_map(What::File),
        1 => (0..600_000_usize).prop_map(|len| What::File(vec![0; len])),
        3 => sparse,
        2 => target().prop_map(What::Symlink),
        4 => any::<Index>().prop_map(What::HardLink),
        1 => Just(What::Fifo),
        1 => (0..4096_u32, 0..1_u32 << 20).prop_map(|(major, minor)| What::Char(major, minor)),
        1 => (0..4096_u32, 0..1_u32 << 20).prop_map(|(major, minor)| What::Block(major, minor)),
    ]
}

prop_compose! {
    fn plant()(
        parent in any::<Index>(),
        name in name(),
        what in what(),
        mode in 0..0o10000_u32,
        owner in (select(vec![0, 1000, 65534, 2_097_151, 2_097_152, 4_294_967_294]), select(vec![0, 5, 3_000_000_000])),
        sec in select(vec![0, -1, -2_000_000_000, 1_700_000_000, (1 << 33) - 1, 1 << 33, 15_000_000_000]),
        nsec in prop_oneof![Just(0), 0..1_000_000_000_i64],
        xattrs in vec((vec(select(b"ab.=%3D25-\xc3\xa4".to_vec()), 1..20), vec(any::<u8>(), 0..300)), 0..3),
        acl in proptest::option::weighted(0.2, (0..100_000_u32, 0..8_u16)),
    ) -> Plant {
        Plant { parent, name, what, mode, owner, mtime: (sec, nsec), xattrs, acl }
    }
}

/// A tree of up to `size` files.
pub(crate) fn forest(size: usize) -> impl Strategy<Value = Vec<Plant>> {
    vec(plant(), size / 2..size)
}

/// Creates the tree in the empty directory `root`.
///
/// GNU tar writes hard links of devices and pipes as separate files: it gets none.
pub(crate) fn grow(root: &Path, plants: &[Plant], linked_nodes: bool) {
    let mut directories = vec![root.to_owned()];
    let mut others: Vec<PathBuf> = Vec::new();
    let mut made: Vec<(PathBuf, &Plant)> = Vec::new();
    for plant in plants {
        let path = plant.parent.get(&directories).join(OsString::from_vec(plant.name.clone()));
        if path.as_os_str().len() > 3900 || fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        match &plant.what {
            What::HardLink(_) if others.is_empty() => continue,
            What::HardLink(other) => {
                fs::hard_link(other.get(&others), &path).unwrap();
                continue;
            }
            what => make(&path, what),
        }
        match plant.what {
            What::Directory => directories.push(path.clone()),
            What::Fifo | What::Char(..) | What::Block(..) if !linked_nodes => {}
            _ => others.push(path.clone()),
        }
        made.push((path, plant));
    }
    for (path, plant) in made.iter().rev() {
        dress(path, plant);
    }
}

fn make(path: &Path, what: &What) {
    let node = |kind, device| rustix::fs::mknodat(CWD, path, kind, Mode::RUSR, device).unwrap();
    match what {
        What::Directory => fs::create_dir(path).unwrap(),
        What::File(data) => fs::write(path, data).unwrap(),
        What::Sparse { data, tail } => {
            let file = fs::File::create(path).unwrap();
            let mut end = 0;
            for (hole, len) in data {
                end += hole * 4096;
                file.write_all_at(&vec![b'd'; usize::from(*len)], end).unwrap();
                end += u64::from(*len);
            }
            file.set_len(end + tail).unwrap();
        }
        What::Symlink(target) => {
            std::os::unix::fs::symlink(OsString::from_vec(target.clone()), path).unwrap()
        }
        What::Fifo => node(FileType::Fifo, 0),
        What::Char(major, minor) => node(FileType::CharacterDevice, rustix::fs::makedev(*major, *minor)),
        What::Block(major, minor) => node(FileType::BlockDevice, rustix::fs::makedev(*major, *minor)),
        What::HardLink(_) => unreachable!("links are made by the caller"),
    }
}

fn dress(path: &Path, plant: &Plant) {
    let set =
        |name: &[u8], value: &[u8]| rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
    let link = matches!(plant.what, What::Symlink(_));
    let (uid, gid) = plant.owner;
    let ids = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    rustix::fs::chownat(CWD, path, ids.0, ids.1, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    if !link {
        rustix::fs::chmod(path, Mode::from_raw_mode(plant.mode)).unwrap();
    }
    let user = matches!(plant.what, What::Directory | What::File(_) | What::Sparse { .. });
    for (i, (name, value)) in plant.xattrs.iter().enumerate() {
        let space: &[u8] = if user && i % 2 == 0 { b"user." } else { b"trusted." };
        set(&[space, name].concat(), value);
    }
    if let What::File(_) = plant.what
        && plant.mode & 1 != 0
    {
        set(b"security.capability", b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    }
    if let Some((id, bits)) = plant.acl.filter(|_| !link) {
        set(b"system.posix_acl_access", &acl(plant.mode, id, bits));
        if let What::Directory = plant.what {
            set(b"system.posix_acl_default", &acl(plant.mode, id, 7 - bits));
        }
    }
    let time = Timespec { tv_sec: plant.mtime.0, tv_nsec: plant.mtime.1 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// An ACL that gives one user `bits`, in the kernel's form.
pub(crate) fn acl(mode: u32, id: u32, bits: u16) -> Vec<u8> {
    let class = |shift: u32| u16::try_from(mode >> shift & 7).unwrap();
    let none = u32::MAX;
    let mut binary = 2_u32.to_le_bytes().to_vec();
    for (tag, bits, id) in
        [(1_u16, class(6), none), (2, bits, id), (4, class(3), none), (16, 7, none), (32, class(0), none)]
    {
        binary.extend(tag.to_le_bytes());
        binary.extend(bits.to_le_bytes());
        binary.extend(id.to_le_bytes());
    }
    binary
}
