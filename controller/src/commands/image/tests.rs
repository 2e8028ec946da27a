//! `kactl image` with scripts that stand in for the real ones.

use super::*;
use std::os::unix::fs::PermissionsExt;

fn args(root: &Path) -> ImageArgs {
    let kernel = Some("6.1.0-none".to_owned());
    ImageArgs { kernel, root: root.into(), lib: None, agent: None, key_only: false }
}

fn places(base: &Path) -> Places {
    Places {
        scripts: base.join("lib"),
        agent: base.join("ka-agent"),
        key: base.join("join.key"),
        boot: base.join("boot"),
        stage2: base.join("stage2"),
    }
}

#[test]
fn every_missing_input_is_named_with_its_remedy() {
    let base = tempfile::tempdir().unwrap();
    let text = run(&args(base.path()), &places(base.path())).unwrap_err().to_string();
    let expected = [
        ("boot/vmlinuz-6.1.0-none", "apt-get install linux-image-6.1.0-none"),
        ("lib/modules/6.1.0-none", "apt-get install linux-image-6.1.0-none"),
        ("bin/busybox", "apt-get install busybox-static"),
        ("ka-agent", "make agent"),
        ("lib/make-rdz", "make install"),
        ("lib/make-stage2", "make install"),
        ("lib/check", "make install"),
        ("join.key", "kactl init"),
    ];
    for (file, remedy) in expected {
        let line = text.lines().find(|l| l.contains(&format!("{}/{file}", base.path().display())));
        assert!(line.is_some_and(|l| l.contains(remedy)), "no line of {file} with {remedy} in: {text}");
    }
}

#[test]
fn a_key_without_an_image_names_the_command_that_makes_one() {
    let base = tempfile::tempdir().unwrap();
    let args = ImageArgs { key_only: true, ..args(base.path()) };
    let text = run(&args, &places(base.path())).unwrap_err().to_string();
    assert!(text.contains("stage1.rdz is missing: `kactl image`"), "{text}");
}

#[test]
fn firmware_is_counted_by_module() {
    let counts = modules_without_firmware(
        "bnx2.ko bnx2/a.fw\nbnx2.ko bnx2/b.fw\ntg3.ko tigon/tg3.bin\nbnx2.ko bnx2/a.fw\n",
    );
    assert_eq!(counts, BTreeMap::from([("bnx2", 2), ("tg3", 1)]));
}

#[test]
fn a_tree_takes_the_place_of_an_old_one_or_of_none() {
    let base = tempfile::tempdir().unwrap();
    let place = base.path().join("stage2");
    for contents in ["first", "second"] {
        let scratch = Scratch::beside(&place).unwrap();
        let new = scratch.0.join("stage2");
        fs::create_dir(&new).unwrap();
        fs::write(new.join("file"), contents).unwrap();
        exchange(&new, &place).unwrap();
        drop(scratch);
        assert_eq!(fs::read_to_string(place.join("file")).unwrap(), contents);
    }
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1, "a scratch directory was left behind");
}

/// A complete set of inputs, with scripts that stand in for the real ones.
fn complete(base: &Path) {
    for directory in ["boot", "lib/modules/6.1.0-none/kernel", "bin"] {
        fs::create_dir_all(base.join(directory)).unwrap();
    }
    for file in ["boot/vmlinuz-6.1.0-none", "bin/busybox", "ka-agent", "join.key"] {
        fs::write(base.join(file), file).unwrap();
    }
    let rdz =
        "mkdir $6; cd $6; for f in vmlinuz all.rdz stage1.rdz; do echo new >$f; done; : >missing-firmware";
    let tree = "mkdir $4; echo new >$4/file; : >$4/missing-firmware; [ ! -e ${4%/*/*}/fail ]";
    for (name, script) in [
        ("make-rdz", rdz),
        ("make-stage2", tree),
        ("add-key", "cat $1 $2 >$3"),
        ("check", "! [ -e $2/nothing ]"),
    ] {
        let path = base.join("lib").join(name);
        fs::write(&path, format!("#!/bin/sh\nset -e\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn a_script_that_fails_leaves_the_old_image_as_it_was() {
    let base = tempfile::tempdir().unwrap();
    complete(base.path());
    let (args, places) = (args(base.path()), places(base.path()));
    let read = |file: &str| fs::read_to_string(base.path().join(file)).unwrap();
    run(&args, &places).unwrap();
    for file in ["boot/vmlinuz", "boot/all.rdz", "stage2/file"] {
        assert_eq!(read(file), "new\n", "{file}");
        fs::write(base.path().join(file), "old").unwrap();
    }
    fs::write(base.path().join("fail"), "").unwrap();
    let error = run(&args, &places).unwrap_err().to_string();
    assert!(error.contains("make-stage2"), "{error}");
    for file in ["boot/vmlinuz", "boot/all.rdz", "stage2/file"] {
        assert_eq!(read(file), "old", "{file}");
    }
    let hidden = fs::read_dir(base.path())
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(hidden.count(), 0, "a scratch directory was left behind");
}

#[test]
fn a_new_key_takes_the_place_of_the_old_one_only() {
    let base = tempfile::tempdir().unwrap();
    complete(base.path());
    let (args, places) = (args(base.path()), places(base.path()));
    run(&args, &places).unwrap();
    run(&ImageArgs { key_only: true, ..args }, &places).unwrap();
    let all = fs::read_to_string(places.boot.join("all.rdz")).unwrap();
    assert_eq!(all, "new\njoin.key");
}

#[test]
fn what_the_check_misses_is_told_with_all_the_rest() {
    let base = tempfile::tempdir().unwrap();
    complete(base.path());
    fs::remove_file(base.path().join("ka-agent")).unwrap();
    let check =
        "#!/bin/sh\necho 'xz is missing: apt-get install xz-utils'\necho 'blkid is missing: another'\n";
    fs::write(base.path().join("lib/check"), check).unwrap();
    let text = run(&args(base.path()), &places(base.path())).unwrap_err().to_string();
    for line in
        ["ka-agent is missing", "xz is missing: apt-get install xz-utils", "blkid is missing: another"]
    {
        assert!(text.contains(line), "no {line} in: {text}");
    }
}

#[test]
fn a_version_is_one_name_whatever_letters_it_has() {
    let base = tempfile::tempdir().unwrap();
    let kernel =
        |version: &str| Kernel::of(&ImageArgs { kernel: Some(version.to_owned()), ..args(base.path()) });
    for version in [
        "5.10.0-32-amd64",
        "6.12.117+deb13-cloud-amd64",
        "5.15.0-91-generic",
        "4.18.0-513.el8.x86_64",
        "5.14.0-362.8.1.el9_3.x86_64+rt",
        "6.4.0-150600.21-default",
        "6.6.8-arch1-1",
        "6.1.0-rc3+",
        "6.1.0~x(y)[z]",
    ] {
        assert_eq!(kernel(version).unwrap().modules, base.path().join("lib/modules").join(version));
    }
    for version in ["", ".", "..", "../6.1.0", "6.1/0", "6.1\n"] {
        assert!(kernel(version).is_err(), "{version:?}");
    }
}
