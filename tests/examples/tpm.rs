//! Proves this machine's TPM, as an agent and its controller do. For a machine with a TPM: `tests/tests/tpm_machine.rs`
//! boots one.

#![allow(clippy::print_stdout, reason = "its console is its result")]

use ka::tpm::FromNode;
use ka::tpm::proof::Proof;
use ka_host::tpm;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let agent = [7; 32];
    for _ in 0..4 {
        let mut tpm = tpm::of_this_machine()?.ok_or("there is no TPM")?;
        let (mut proof, mut request) = Proof::begin(&agent, FromNode::Key(tpm.key()))?;
        while let Some(next) = proof.on(tpm.answer(request, &agent)?)? {
            request = next;
        }
        println!("TPM PROVEN {:?}", proof.proven());
    }
    println!("ALL RIGHT");
    Ok(())
}
