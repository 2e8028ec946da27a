//! The proof of a TPM, by an emulated one, and machines that are pinned to theirs from their first run on.
//!
//! Needs swtpm and tpm2-tools; the run needs root, a loop device, `unshare`, `chroot`, `ip`.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ka::keys::JoinKey;
use ka::tpm::proof::{Proof, ProofError};
use ka::tpm::{Fingerprint, FromNode, ToNode};
use ka::wire::control::ToController;
use ka_agent::receive::unpack_into;
use ka_agent::session::{Endorse, Session};
use ka_agent::unpack::Options;
use ka_host::tpm::TpmError;
use ka_tests::golden_machine::{arriving, join_endorsed, kactl, kactl_run_for, on_a_golden_machine, set_up};
use ka_tests::process::Process;
use ka_tests::succeed;
use ka_tests::swtpm::Swtpm;
use serde_json::Value;

const GB: u64 = 1_000_000_000;
const AGENT: [u8; 32] = [7; 32];

/// Carries the proof of `tpm`, for an agent with the key `agent`, to a controller that hears an agent with
/// the key `heard`.
fn prove(tpm: &mut dyn Endorse, agent: [u8; 32], heard: [u8; 32]) -> Result<Option<Fingerprint>, String> {
    let (mut proof, mut request) = Proof::begin(&heard, FromNode::Key(tpm.key())).unwrap();
    loop {
        let answer = tpm.answer(request, &agent).map_err(|e| e.to_string())?;
        match proof.on(answer).map_err(|e| e.to_string())? {
            Some(next) => request = next,
            None => return Ok(proof.proven()),
        }
    }
}

#[test]
fn a_tpm_proves_the_key_that_tpm2_tools_reads_from_it() {
    let swtpm = Swtpm::new();
    let key = {
        let mut tpm = swtpm.open();
        let key = tpm.key();
        // More often than a TPM has places for keys and sessions.
        for _ in 0..8 {
            assert_eq!(prove(&mut tpm, AGENT, AGENT), Ok(Some(Fingerprint::of(&key))));
        }
        key
    };
    for _ in 0..8 {
        assert_eq!(swtpm.open().key(), key, "the key is the same each time");
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let tcti = format!("swtpm:path={}", swtpm.path().display());
    let tool = |arguments: &[&str]| {
        succeed(Command::new(arguments[0]).args(&arguments[1..]).env("TPM2TOOLS_TCTI", &tcti))
    };
    tool(&["tpm2_createek", "-G", "ecc", "-c", &at("ek"), "-u", &at("ek.pub")]);
    let public = fs::read(at("ek.pub")).unwrap();
    let holds = |word: &[u8; 32]| public.windows(32).any(|found| found == word);
    assert!(holds(&key.x) && holds(&key.y), "tpm2_createek makes another key");
    assert_ne!(Swtpm::new().open().key(), key, "another TPM has another key");
}

/// A host that passes the controller's challenge on to the machine that it claims to be.
#[test]
fn a_tpm_proves_nothing_for_another_agent() {
    let swtpm = Swtpm::new();
    let outcome = prove(&mut swtpm.open(), AGENT, [8; 32]);
    // The TPM itself refuses the controller's command: its HMAC is for another session.
    assert!(outcome.clone().unwrap_err().contains("refuses GetRandom"), "{outcome:?}");
}

/// A host with a TPM of its own, which names the key of another.
struct Impostor<'a> {
    own: &'a mut dyn Endorse,
    named: ka::tpm::Point,
}

impl Endorse for Impostor<'_> {
    fn key(&self) -> ka::tpm::Point {
        self.named
    }

    fn answer(&mut self, request: ToNode, agent: &ka::keys::Key) -> Result<FromNode, TpmError> {
        match (request, self.own.answer(request, agent)) {
            (_, Ok(answer)) => Ok(answer),
            // It answers something, since a refusal would end its try.
            (ToNode::Command { nonce, mac }, Err(_)) => {
                Ok(FromNode::Answer(ka::tpm::Answer { random: [0; 16], nonce, attributes: 0x80, mac }))
            }
            (_, Err(error)) => Err(error),
        }
    }
}

#[test]
fn another_tpm_proves_nothing() {
    let (mine, theirs) = (Swtpm::new(), Swtpm::new());
    let named = mine.open().key();
    let outcome = prove(&mut Impostor { own: &mut theirs.open(), named }, AGENT, AGENT);
    assert_eq!(outcome, Err(ProofError::Wrong.to_string()));
}

#[test]
fn a_machine_is_pinned_to_its_tpm_from_its_first_run_on() {
    on_a_golden_machine("runs_on_this_machine");
}

#[test]
#[ignore = "run by a_machine_is_pinned_to_its_tpm_from_its_first_run_on"]
fn runs_on_this_machine() {
    let key = set_up();
    let (mine, theirs) = (Swtpm::new(), Swtpm::new());
    clone(&key, Some(&mine), "first");
    let pinned = record()["tpm"]["key"].as_str().unwrap().to_owned();
    assert_eq!(pinned, Fingerprint::of(&mine.open().key()).to_string());

    // It is refused with another TPM and without one; nobody takes its place meanwhile.
    let mut run = start("second");
    let reason = refused(&key, Some(&theirs));
    assert!(reason.contains("has another TPM than the TPM with which"), "{reason}");
    let reason = refused(&key, None);
    assert!(reason.contains("has not proven the TPM with which"), "{reason}");
    assert!(reason.contains("kactl machines unpin 52:54:00:00:00:01"), "{reason}");
    let mut naming = theirs.open();
    let mut impostor = Impostor { own: &mut naming, named: mine.open().key() };
    let reason = join_endorsed(&key, &arriving(1, GB), Some(&mut impostor)).err().unwrap();
    assert!(reason.contains("does not have the endorsement key that it names"), "{reason}");
    drop(naming);
    run.wait_for("is rejected: it claims the card 52:54:00:00:00:01", 2);
    receive(&key, Some(&mine));
    assert_eq!(run.end(), 0, "{}", run.said());

    // After the pin is forgotten, the next clone pins it again.
    assert!(succeed(kactl().args(["machines", "unpin", "52:54:00:00:00:01"])).contains("any TPM, or none"));
    assert_eq!(record()["tpm"], Value::Null);
    clone(&key, Some(&theirs), "third");
    assert_ne!(record()["tpm"]["key"].as_str().unwrap(), pinned);
    assert!(
        succeed(kactl().args(["machines", "show", "52:54:00:00:00:01"]))
            .contains("pinned since run kainstall")
    );
}

fn record() -> Value {
    let path = Path::new("/ka/state/machines/52-54-00-00-00-01.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn start(name: &str) -> Process {
    fs::create_dir_all("/ka/out").unwrap();
    Process::start(&mut kactl_run_for(1, &["--yes"]), name, Path::new("/ka/out"))
}

/// A whole run with the one machine.
fn clone(key: &JoinKey, tpm: Option<&Swtpm>, name: &str) {
    let mut run = start(name);
    receive(key, tpm);
    assert_eq!(run.end(), 0, "{}", run.said());
}

fn join(key: &JoinKey, tpm: Option<&Swtpm>) -> Result<Session, String> {
    let mut tpm = tpm.map(Swtpm::open);
    join_endorsed(key, &arriving(1, GB), tpm.as_mut().map(|tpm| tpm as &mut dyn Endorse))
}

fn refused(key: &JoinKey, tpm: Option<&Swtpm>) -> String {
    join(key, tpm).err().expect("it is refused")
}

fn receive(key: &JoinKey, tpm: Option<&Swtpm>) {
    let session = join(key, tpm).unwrap();
    session.wait_for_plan().unwrap();
    session.tell(ToController::Ready);
    let (stream, mut reader) = session.wait_for_stream().unwrap();
    // Not on the golden disk, of which it would become a part.
    let tree = PathBuf::from(format!("/dev/shm/ka-tpm-{}", std::process::id()));
    fs::create_dir_all(&tree).unwrap();
    unpack_into(&mut reader, &tree, &Options::default()).unwrap();
    session.complete(stream, reader.finish().unwrap());
    session.leave().unwrap();
    fs::remove_dir_all(&tree).unwrap();
}
