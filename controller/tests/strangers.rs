//! Other users of the golden node can hold none of our locks and write to none of our directories, regardless
//! of the umask.
//!
//! Needs root, for another user and a separate network.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than any test takes unless something hangs.
const PATIENCE: Duration = Duration::from_secs(120);

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        self.0.wait().unwrap();
    }
}

fn wait_for<T>(what: &str, mut get: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = get() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "nothing came of: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `kactl ARGS` under a umask, in a network namespace.
fn kactl(site: &Path, umask: &str, args: &[&str]) -> Command {
    let line = format!("ip link set lo up; umask {umask}; exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", &line, "sh", env!("CARGO_BIN_EXE_kactl"), "--config"]);
    command.arg(site.join("ka.toml")).args(args).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Holds a lock as the user nobody, if possible.
fn stranger(file: &Path) -> Ended {
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--",
        "flock",
        "--nonblock",
        "--shared",
    ]);
    Ended(
        command
            .arg(file)
            .args(["echo", "locked"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    )
}

#[test]
fn a_session_is_nobody_elses_whatever_the_umask() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root, for another user");
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path();
    // Like /run: readable by all users.
    fs::set_permissions(site, fs::Permissions::from_mode(0o755)).unwrap();
    let directories = ["keys", "run", "state", "log"].map(|name| format!("{name} = {:?}\n", site.join(name)));
    fs::write(site.join("ka.toml"), format!("[directories]\n{}", directories.concat())).unwrap();
    fs::write(site.join("file"), "content").unwrap();
    assert!(kactl(site, "0000", &["init"]).status().unwrap().success());

    let file = site.join("file").to_str().unwrap().to_owned();
    let send = ["send", "--session", "s", "-n", "1", "--file", &file];
    let running = Ended(kactl(site, "0000", &send).spawn().unwrap());
    let session = site.join("run/sessions/s");
    wait_for("the session", || session.exists().then_some(()));
    let open = Command::new("find")
        .arg(site.join("run"))
        .args(["!", "-type", "l", "-perm", "/077"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(open.stdout).unwrap(), "", "others may use these");
    drop(running);

    // Files that an earlier version left open to all are closed before use.
    fs::set_permissions(site.join("run"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(site.join("run/sessions"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(&session, "1\n").unwrap();
    fs::set_permissions(&session, fs::Permissions::from_mode(0o666)).unwrap();
    let running = Ended(kactl(site, "0022", &send).spawn().unwrap());
    wait_for("the session", || (fs::metadata(&session).ok()?.mode() & 0o7777 == 0o600).then_some(()));
    let mut other = stranger(&session);
    assert!(!other.0.wait().unwrap().success(), "another user opens the session's lock");
    assert_eq!(fs::metadata(site.join("run")).unwrap().mode() & 0o067, 0);
    drop(running);

    // Files of another user are not used at all.
    let _ = fs::remove_file(&session);
    std::os::unix::fs::chown(site.join("run/sessions"), Some(65534), None).unwrap();
    let refused = kactl(site, "0022", &send).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("run/sessions") && said.contains("belongs to the user 65534"), "{said}");
}
