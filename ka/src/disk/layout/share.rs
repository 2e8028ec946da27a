//! Distributes a number of MB by weight, with a minimum for each share.

/// A share: its weight and its minimum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taker {
    pub(super) weight: u64,
    pub(super) least: u64,
}

/// Distributes `total` by weight. A share below its minimum gets the minimum, at the expense of the others.
/// The shares add up to `total` if there are any; `None` if the minimums exceed it.
pub(super) fn share(total: u64, takers: &[Taker]) -> Option<Vec<u64>> {
    let mut least = vec![false; takers.len()];
    loop {
        let free = takers.iter().zip(&least).filter(|(_, least)| !**least);
        let weights: u128 = free.map(|(t, _)| u128::from(t.weight)).sum();
        let taken: u128 =
            takers.iter().zip(&least).filter(|(_, l)| **l).map(|(t, _)| u128::from(t.least)).sum();
        let rest = u128::from(total).checked_sub(taken)?;
        let starves = takers.iter().zip(&least).position(|(taker, is_least)| {
            !*is_least && rest * u128::from(taker.weight) < u128::from(taker.least) * weights
        });
        match starves.and_then(|index| least.get_mut(index)) {
            Some(is_least) => *is_least = true,
            None => return Some(by_weight(rest, weights, takers, &least)),
        }
    }
}

/// Rounds so that the shares add up: each gets the difference between successive rounded sums.
fn by_weight(rest: u128, weights: u128, takers: &[Taker], least: &[bool]) -> Vec<u64> {
    let (mut weight, mut given) = (0, 0);
    let mut shares = Vec::new();
    for (taker, is_least) in takers.iter().zip(least) {
        if *is_least {
            shares.push(taker.least);
            continue;
        }
        weight += u128::from(taker.weight);
        let up_to_here = (rest * weight).checked_div(weights).unwrap_or_default();
        shares.push(u64::try_from(up_to_here - given).unwrap_or(u64::MAX));
        given = up_to_here;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(total: u64, takers: &[(u64, u64)]) -> Option<Vec<u64>> {
        let takers: Vec<_> = takers.iter().map(|&(weight, least)| Taker { weight, least }).collect();
        share(total, &takers)
    }

    #[test]
    fn shares_add_up_and_nobody_gets_less_than_the_least() {
        assert_eq!(shares(10, &[(1, 1), (1, 1), (1, 1)]), Some(vec![3, 3, 4]));
        assert_eq!(shares(100, &[(1, 1), (3, 1)]), Some(vec![25, 75]));
        assert_eq!(shares(100, &[(1, 40), (3, 1)]), Some(vec![40, 60]));
        // One share's minimum pushes the next below its own.
        assert_eq!(shares(100, &[(1, 60), (1, 30), (1, 1)]), Some(vec![60, 30, 10]));
        assert_eq!(shares(91, &[(1, 60), (1, 30), (1, 1)]), Some(vec![60, 30, 1]));
        assert_eq!(shares(90, &[(1, 60), (1, 30), (1, 1)]), None);
        assert_eq!(shares(5, &[]), Some(vec![]));
        assert_eq!(shares(1 << 44, &[(1000, 1), (1 << 44, 1)]).map(|s| s.iter().sum()), Some(1_u64 << 44));
    }
}
