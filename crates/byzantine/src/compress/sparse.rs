//! A few coordinates as they are, and where they stand.

use super::bits::{Reader, Writer};

/// Bits of a Rice parameter.
const PARAMETER_BITS: u32 = 5;

/// The places, in order, of the `k` coordinates of the largest size; of equals, the first.
pub(super) fn largest(values: &[f32], k: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..values.len()).collect();
    if k < places.len() {
        let size = |&place: &usize| values[place].abs();
        places.select_nth_unstable_by(k, |one, other| {
            size(other).total_cmp(&size(one)).then_with(|| one.cmp(other))
        });
        places.truncate(k);
        places.sort_unstable();
    }
    places
}

/// How many there are, as a gamma code of one more; the parameter b of the code, the best there is; then for each the Rice code of
/// how many coordinates it leaves out, and its value.
pub(super) fn encode(values: &[f32], places: &[usize], writer: &mut Writer) {
    let gaps = || {
        let before = places.iter().map(|place| place + 1);
        places.iter().zip(std::iter::once(0).chain(before)).map(|(place, before)| (place - before) as u64)
    };
    let cost = |b: u32| gaps().map(|gap| (gap >> b) + 1 + u64::from(b)).sum::<u64>();
    let b = (0..1 << PARAMETER_BITS).min_by_key(|&b| cost(b)).unwrap_or(0);
    writer.gamma(places.len() as u64 + 1);
    writer.push(u64::from(b), PARAMETER_BITS);
    for (&place, gap) in places.iter().zip(gaps()) {
        writer.rice(gap, b);
        writer.float(values[place]);
    }
}

pub(super) fn decode(reader: &mut Reader<'_>, out: &mut [f32]) -> Option<()> {
    out.fill(0.0);
    let count = reader.gamma()? - 1;
    let b = reader.take(PARAMETER_BITS)? as u32;
    let mut next = 0_usize;
    for _ in 0..count {
        let place = next.checked_add(usize::try_from(reader.rice(b)?).ok()?)?;
        *out.get_mut(place)? = reader.float()?;
        next = place + 1;
    }
    Some(())
}
