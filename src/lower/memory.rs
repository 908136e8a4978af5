//! The memory plan: buffers with lifetimes to offsets in one arena.
//!
//! Buffers whose sizes are multiples of the same monomial (1, n, n·t …) form a class, and each class is planned on
//! its own in units of that monomial, so offsets hold for every batch size. Within a class, buffers are placed
//! largest first at the lowest offset that is free for their whole lifetime.

use kur_runtime::dim::Dim;
use kur_runtime::plan::{ALIGN, ArenaClass, Place};

/// A buffer to place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Number of f32 elements.
    pub len: Dim,
    /// Launch that writes it first.
    pub first: usize,
    /// Last launch that touches it.
    pub last: usize,
}

/// Places all buffers; the result has one place per lifetime.
#[must_use]
pub fn plan(buffers: &[Lifetime]) -> (Vec<Place>, Vec<ArenaClass>) {
    let mut classes: Vec<ArenaClass> = Vec::new();
    let mut class_of = Vec::with_capacity(buffers.len());
    for b in buffers {
        let class = b.len.class();
        let i = classes.iter().position(|c| c.class == class).unwrap_or_else(|| {
            classes.push(ArenaClass { class, unit_bytes: 0 });
            classes.len() - 1
        });
        class_of.push(i);
    }
    let mut places = vec![Place::Arena { class: 0, unit_offset: 0 }; buffers.len()];
    for (c, class) in classes.iter_mut().enumerate() {
        let mut order: Vec<usize> = (0..buffers.len()).filter(|i| class_of[*i] == c).collect();
        order.sort_by_key(|i| (std::cmp::Reverse(buffers[*i].len.coef()), buffers[*i].first, *i));
        // What is placed, by offset: start and end, and the lifetime.
        let mut placed: Vec<(u64, u64, Lifetime)> = Vec::new();
        for i in order {
            let own = buffers[i];
            let size = (own.len.coef() * 4).next_multiple_of(ALIGN);
            let mut at = 0;
            for (start, end, other) in &placed {
                if other.first <= own.last && own.first <= other.last {
                    if at + size <= *start {
                        break;
                    }
                    at = at.max(*end);
                }
            }
            let behind = placed.partition_point(|(start, _, _)| *start <= at);
            placed.insert(behind, (at, at + size, own));
            class.unit_bytes = class.unit_bytes.max(at + size);
            places[i] = Place::Arena { class: u32::try_from(c).unwrap_or(u32::MAX), unit_offset: at };
        }
    }
    (places, classes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn live_buffers_never_overlap(
            spec in prop::collection::vec((1u64..5000, any::<bool>(), 0usize..30, 0usize..10), 1..40),
            n in 1u64..70,
        ) {
            let buffers: Vec<Lifetime> = spec
                .iter()
                .map(|(len, batch, first, extra)| {
                    let len = Dim::constant(*len);
                    let len = if *batch { len.times(Dim::batch()) } else { len };
                    Lifetime { len, first: *first, last: first + extra }
                })
                .collect();
            let (places, classes) = plan(&buffers);
            let mut base = vec![0];
            for c in &classes {
                let size = (c.unit_bytes * c.class.eval(&[n])).next_multiple_of(ALIGN);
                base.push(base[base.len() - 1] + size);
            }
            let span = |i: usize| match places[i] {
                Place::Arena { class, unit_offset } => {
                    let c = class as usize;
                    let start = base[c] + unit_offset * classes[c].class.eval(&[n]);
                    (start, start + buffers[i].len.eval(&[n]) * 4)
                }
                _ => (0, 0),
            };
            for i in 0..buffers.len() {
                prop_assert_eq!(span(i).0 % ALIGN, 0);
                prop_assert!(span(i).1 <= base[classes.len()]);
                for k in 0..i {
                    let together = buffers[i].first <= buffers[k].last && buffers[k].first <= buffers[i].last;
                    let apart = span(i).1 <= span(k).0 || span(k).1 <= span(i).0;
                    prop_assert!(!together || apart, "{i} and {k} overlap");
                }
            }
        }
    }
}
