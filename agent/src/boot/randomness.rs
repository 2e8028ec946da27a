//! Randomness early at boot. Keys depend on it, and a machine without a hardware source may have to wait.
//! Without a message that looks like a hang.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// Waits until the kernel's random number generator is ready, and logs it if that takes time.
///
/// # Errors
/// The kernel has no random number generator.
pub fn wait() -> rustix::io::Result<()> {
    wait_with(|flags| getrandom(&mut [0; 16], flags).map(drop), |text| log::warn!("{text}"))
}

fn wait_with(
    mut ask: impl FnMut(GetRandomFlags) -> rustix::io::Result<()>,
    mut tell: impl FnMut(&str),
) -> rustix::io::Result<()> {
    match ask(GetRandomFlags::NONBLOCK) {
        Err(Errno::AGAIN) => {
            tell(
                "the kernel has no randomness for keys yet: waiting; a virtual machine is quicker with a virtio-rng device",
            );
            loop {
                match ask(GetRandomFlags::empty()) {
                    Err(Errno::INTR) => {}
                    outcome => return outcome.inspect(|()| tell("the kernel has randomness now")),
                }
            }
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waited(answers: &[rustix::io::Result<()>]) -> (rustix::io::Result<()>, Vec<bool>, usize) {
        let (mut answers, mut blocked, mut said) = (answers.iter().copied(), Vec::new(), 0);
        let ask = |flags: GetRandomFlags| {
            blocked.push(flags.is_empty());
            answers.next().unwrap_or(Err(Errno::IO))
        };
        let outcome = wait_with(ask, |_| said += 1);
        (outcome, blocked, said)
    }

    #[test]
    fn only_a_kernel_that_blocks_is_told_of() {
        assert_eq!(waited(&[Ok(())]), (Ok(()), vec![false], 0));
        let late = [Err(Errno::AGAIN), Err(Errno::INTR), Ok(())];
        assert_eq!(waited(&late), (Ok(()), vec![false, true, true], 2));
        assert_eq!(waited(&[Err(Errno::NOSYS)]), (Err(Errno::NOSYS), vec![false], 0));
        assert_eq!(wait(), Ok(()), "this machine has some");
    }
}
