//! Places partitions one after the other, for a disk of another size than the described one.

use super::super::description::{Description, Entry, Role, Size};
use super::super::units::MB;
use super::share::{Taker, share};
use super::{Extent, HEAD_MB, LayoutError, Least, Space};

/// The space for one partition in MB: fixed, or a share.
#[derive(Clone, Copy, Debug)]
struct Want<'a> {
    entry: &'a Entry,
    /// Bytes and MB of a fixed size.
    fixed: Option<(u64, u64)>,
    weight: u64,
    /// The minimum MB of a share.
    least: u64,
}

/// The places of a description's partitions, in line order.
pub(super) fn places(
    description: &Description,
    space: &Space,
    scale: Option<u64>,
    least: &Least,
) -> Result<Vec<Extent>, LayoutError> {
    let with_least = arranged(description, space, scale, least);
    match with_least {
        // Too little room for the contents of the partitions. Which ones lack room is found from the places
        // without this constraint.
        Err(_) if !least.is_empty() => arranged(description, space, scale, &Least::new()),
        places => places,
    }
}

fn arranged(
    description: &Description,
    space: &Space,
    scale: Option<u64>,
    least: &Least,
) -> Result<Vec<Extent>, LayoutError> {
    let mut wants: Vec<_> =
        description.entries().iter().map(|entry| want(description, space, entry, least)).collect();
    if let Some(golden) = scale {
        scale_fixed(&mut wants, space, golden, least);
    }
    in_order(description, space, &mut wants);
    let inside = logicals_need(&wants);
    fit_extended(&mut wants, inside, scale.is_some())?;

    let room = space.end_mb().saturating_sub(HEAD_MB);
    let outer = sizes(&wants, false, room)
        .map_err(|need| space.too_small(description, need.saturating_add(HEAD_MB)))?;
    let mut places = Vec::new();
    let mut next = HEAD_MB;
    let mut extended = None;
    for (want, mb) in wants.iter().filter(|w| w.entry.role != Role::Logical).zip(outer) {
        if want.entry.role == Role::Extended {
            extended = Some((next, mb));
        }
        places.push((want.entry.number, place(want, space, next, mb, None)));
        next += mb;
    }
    if let Some((start, mb)) = extended {
        let tables = wants.iter().filter(|w| w.entry.role == Role::Logical).count() as u64;
        let inner = sizes(&wants, true, mb.saturating_sub(tables));
        let inner = inner.map_err(|need| space.too_small(description, need.saturating_add(HEAD_MB)))?;
        let mut next = start;
        for (want, mb) in wants.iter().filter(|w| w.entry.role == Role::Logical).zip(inner) {
            places.push((want.entry.number, place(want, space, next + 1, mb, Some(next))));
            next += 1 + mb;
        }
    }
    let of =
        |entry: &Entry| places.iter().find(|(number, _)| *number == entry.number).map(|(_, place)| *place);
    Ok(description.entries().iter().filter_map(of).collect())
}

fn want<'a>(description: &Description, space: &Space, entry: &'a Entry, least: &Least) -> Want<'a> {
    let least = least.get(&entry.number).map_or(1, |bytes| bytes.div_ceil(MB).max(1));
    match entry.size {
        Size::Fill { weight } => Want { entry, fixed: None, weight: u64::from(weight), least },
        Size::Fixed(length) => {
            let bytes = description.bytes(length, space.disk.sector);
            // The extended partition has no contents of its own: it takes whole MB.
            let mb = bytes.div_ceil(MB);
            let bytes = if entry.role == Role::Extended { mb.saturating_mul(MB) } else { bytes };
            Want { entry, fixed: Some((bytes, mb)), weight: 0, least }
        }
    }
}

/// By start on the described disk if all have one, else by number. Logical ones are always in number order,
/// in which their tables are chained.
fn in_order(description: &Description, space: &Space, wants: &mut [Want<'_>]) {
    let by_start = wants.iter().filter(|w| w.entry.role != Role::Logical).all(|w| w.entry.start.is_some());
    wants.sort_by_key(|want| match want.entry.start {
        Some(start) if by_start && want.entry.role != Role::Logical => {
            (description.bytes(start, space.disk.sector), want.entry.number)
        }
        _ => (0, want.entry.number),
    });
}

/// Scales the fixed sizes of data partitions. Sizes that do not scale are first subtracted from both disks,
/// so that a description that fits the described disk also fits this one.
fn scale_fixed(wants: &mut [Want<'_>], space: &Space, golden: u64, least: &Least) {
    let scales = |w: &Want<'_>| {
        w.fixed.is_some() && w.entry.role != Role::Extended && !w.entry.kind.is_of_fixed_size()
    };
    let mb = |w: &Want<'_>| w.fixed.map_or(0, |(_, mb)| mb);
    let logicals: u64 = wants.iter().filter(|w| w.entry.role == Role::Logical).map(|w| 1 + mb(w)).sum();
    let slack: u64 = wants.iter().filter(|w| w.entry.role == Role::Extended).map(mb).sum();
    let slack = slack.saturating_sub(logicals);
    let tables = wants.iter().filter(|w| w.entry.role == Role::Logical).count() as u64;
    let constant: u64 =
        wants.iter().filter(|w| !scales(w) && w.entry.role != Role::Extended).map(mb).sum::<u64>();
    let constant = constant + slack + tables + HEAD_MB;
    let data: u64 = wants.iter().filter(|w| scales(w)).map(mb).sum();
    let fills = wants.iter().filter(|w| w.fixed.is_none() && w.entry.role != Role::Extended);
    let room = space.end_mb().saturating_sub(constant);
    let golden_room = (golden / MB).saturating_sub(constant).max(data).max(1);
    let most = room.saturating_sub(fills.map(|w| w.least).sum());
    let pool = u128::from(data) * u128::from(room) / u128::from(golden_room);
    let pool = u64::try_from(pool).unwrap_or(u64::MAX).min(most);
    let takers: Vec<_> = wants
        .iter()
        .filter(|w| scales(w))
        .map(|w| Taker { weight: mb(w), least: if least.is_empty() { 1 } else { w.least } })
        .collect();
    // If even the minimum sizes do not fit, they stay and are refused with their sum.
    let shares = share(pool, &takers).unwrap_or_else(|| takers.iter().map(|t| t.least).collect());
    for (want, mb) in wants.iter_mut().filter(|w| scales(w)).zip(shares) {
        want.fixed = Some((mb.saturating_mul(MB), mb));
    }
    let logicals: u64 = wants.iter().filter(|w| w.entry.role == Role::Logical).map(|w| 1 + mb(w)).sum();
    for want in wants.iter_mut().filter(|w| w.entry.role == Role::Extended && w.fixed.is_some()) {
        let mb = logicals.saturating_add(slack);
        want.fixed = Some((mb.saturating_mul(MB), mb));
    }
}

/// The minimum MB for the logical partitions and their tables.
fn logicals_need(wants: &[Want<'_>]) -> u64 {
    let logicals = wants.iter().filter(|w| w.entry.role == Role::Logical);
    logicals.map(|w| 1 + w.fixed.map_or(w.least, |(_, mb)| mb)).fold(0, u64::saturating_add)
}

/// Makes the extended partition contain its logical ones. With starts, or when scaled, it grows if alignment
/// requires it; a size given by a person must suffice.
fn fit_extended(wants: &mut [Want<'_>], inside: u64, grows: bool) -> Result<(), LayoutError> {
    let Some(extended) = wants.iter_mut().find(|w| w.entry.role == Role::Extended) else { return Ok(()) };
    match extended.fixed {
        None => extended.least = inside.max(1),
        Some((_, mb)) if mb >= inside => {}
        Some(_) if grows || extended.entry.start.is_some() => {
            extended.fixed = Some((inside.saturating_mul(MB), inside));
        }
        Some((bytes, _)) => {
            return Err(LayoutError::ExtendedTooSmall {
                line: extended.entry.line,
                have: bytes,
                need: inside.saturating_mul(MB),
            });
        }
    }
    Ok(())
}

/// The MB of the primary or logical partitions, if so many are available together; or how many they need.
fn sizes(wants: &[Want<'_>], logical: bool, room: u64) -> Result<Vec<u64>, u64> {
    let wants: Vec<_> = wants.iter().filter(|w| (w.entry.role == Role::Logical) == logical).collect();
    let fixed = wants.iter().filter_map(|w| w.fixed).map(|(_, mb)| mb).fold(0, u64::saturating_add);
    let takers: Vec<_> = wants
        .iter()
        .filter(|w| w.fixed.is_none())
        .map(|w| Taker { weight: w.weight, least: w.least })
        .collect();
    let need = takers.iter().map(|t| t.least).fold(fixed, u64::saturating_add);
    let rest = room.checked_sub(fixed).ok_or(need)?;
    let mut shares = share(rest, &takers).ok_or(need)?.into_iter();
    Ok(wants
        .iter()
        .map(|w| w.fixed.map_or_else(|| shares.next().unwrap_or_default(), |(_, mb)| mb))
        .collect())
}

fn place(want: &Want<'_>, space: &Space, start: u64, mb: u64, ebr: Option<u64>) -> Extent {
    let per_mb = space.disk.sector.per_mb();
    let bytes = want.fixed.map_or(mb.saturating_mul(MB), |(bytes, _)| bytes);
    Extent { start: start * per_mb, size: space.sectors(bytes), ebr: ebr.map(|mb| mb * per_mb) }
}
