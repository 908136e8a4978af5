//! A layered layout: sizes of boxes and what each reads -> places. The rank of a box is the longest way to it; within
//! a rank boxes are ordered by the mean place of their neighbours. An arrow over several ranks runs through a point
//! in each of them, so that it does not cross boxes.

/// Distance of boxes in a rank, and of ranks.
const GAP: f64 = 24.0;
const RANK_GAP: f64 = 40.0;

/// Rounds of ordering and of moving boxes below each other.
const ROUNDS: usize = 8;

/// Points of arrows that leave no room of their own: beyond so many, arrows run straight.
const MAX_POINTS: usize = 20_000;

/// A place: upper left corner.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
}

/// Where everything goes.
pub(super) struct Layout {
    /// Upper left corners, one for each box.
    pub(super) corners: Vec<Point>,
    /// For each arrow in the order of boxes and their inputs: its points.
    pub(super) arrows: Vec<Vec<Point>>,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A box or a point of an arrow.
struct Item {
    width: f64,
    rank: usize,
    x: f64,
    above: Vec<usize>,
    below: Vec<usize>,
}

/// Lays out boxes of `sizes` (width, height), each of which reads earlier ones.
pub(super) fn layout(sizes: &[(f64, f64)], from: &[&[usize]]) -> Layout {
    let mut ranks = vec![0usize; sizes.len()];
    for (i, inputs) in from.iter().enumerate() {
        ranks[i] = inputs.iter().filter(|&&j| j < i).map(|&j| ranks[j] + 1).max().unwrap_or(0);
    }
    let new = |width: f64, rank: usize| Item { width, rank, x: 0.0, above: Vec::new(), below: Vec::new() };
    let mut items: Vec<Item> = sizes.iter().zip(&ranks).map(|(s, r)| new(s.0, *r)).collect();
    let mut paths: Vec<Vec<usize>> = Vec::new();
    for (i, inputs) in from.iter().enumerate() {
        for &j in inputs.iter().filter(|&&j| j < i) {
            let mut path = vec![j];
            if items.len() < sizes.len() + MAX_POINTS {
                for rank in ranks[j] + 1..ranks[i] {
                    path.push(items.len());
                    items.push(new(0.0, rank));
                }
            }
            path.push(i);
            for pair in path.windows(2) {
                if let &[a, b] = pair {
                    items[a].below.push(b);
                    items[b].above.push(a);
                }
            }
            paths.push(path);
        }
    }
    let rows = order(&mut items);
    let mut tops = Vec::with_capacity(rows.len());
    let mut bottom = RANK_GAP / 2.0;
    for row in &rows {
        let height = row.iter().filter_map(|&i| sizes.get(i)).map(|s| s.1).fold(0.0, f64::max);
        tops.push((bottom, height));
        bottom += height + RANK_GAP;
    }
    let left = items.iter().map(|i| i.x - i.width / 2.0).fold(f64::INFINITY, f64::min) - GAP;
    let right = items.iter().map(|i| i.x + i.width / 2.0).fold(0.0, f64::max) + GAP;
    let left = if left.is_finite() { left } else { 0.0 };
    let at = |i: usize| -> Point {
        let (top, row) = tops[items[i].rank];
        let height = sizes.get(i).map_or(0.0, |s| s.1);
        Point { x: items[i].x - left, y: top + (row - height) / 2.0 }
    };
    let corners = sizes.iter().enumerate().map(|(i, s)| Point { x: at(i).x - s.0 / 2.0, ..at(i) }).collect();
    let arrows = paths.iter().map(|path| arrow(path, &at, &tops, &items, sizes)).collect();
    Layout { corners, arrows, width: right - left, height: bottom - RANK_GAP / 2.0 }
}

/// From the lower edge of the first box, straight through each rank between, to the upper edge of the last.
fn arrow(
    path: &[usize],
    at: &impl Fn(usize) -> Point,
    tops: &[(f64, f64)],
    items: &[Item],
    sizes: &[(f64, f64)],
) -> Vec<Point> {
    let mut points = Vec::with_capacity(2 * path.len());
    for (n, &i) in path.iter().enumerate() {
        let place = at(i);
        let (top, height) = tops[items[i].rank];
        match sizes.get(i) {
            // Down to the edge of the rank first: a taller neighbour is not crossed.
            Some(size) if n == 0 => {
                points.push(Point { y: place.y + size.1, ..place });
                if size.1 < height {
                    points.push(Point { y: top + height, ..place });
                }
            }
            Some(size) => {
                if size.1 < height {
                    points.push(Point { y: top, ..place });
                }
                points.push(place);
            }
            None => {
                points.push(Point { y: top, ..place });
                points.push(Point { y: top + height, ..place });
            }
        }
    }
    points
}

/// Orders the items of each rank and gives them an x.
fn order(items: &mut [Item]) -> Vec<Vec<usize>> {
    let ranks = items.iter().map(|i| i.rank + 1).max().unwrap_or(0);
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); ranks];
    for (i, item) in items.iter().enumerate() {
        rows[item.rank].push(i);
    }
    for row in &rows {
        pack(items, row, &vec![0.0; row.len()]);
    }
    for round in 0..2 * ROUNDS {
        let down = round % 2 == 0;
        let turn: Vec<usize> = if down { (0..ranks).collect() } else { (0..ranks).rev().collect() };
        for r in turn {
            let mut wanted: Vec<(f64, usize)> =
                rows[r].iter().map(|&i| (mean(items, i, down).unwrap_or(items[i].x), i)).collect();
            if round < ROUNDS {
                // Stable: items with the same neighbours keep their order.
                wanted.sort_by(|a, b| a.0.total_cmp(&b.0));
                rows[r] = wanted.iter().map(|(_, i)| *i).collect();
            }
            let wanted: Vec<f64> = wanted.into_iter().map(|(x, _)| x).collect();
            pack(items, &rows[r], &wanted);
        }
    }
    rows
}

/// The mean place of what an item reads, or of what reads it.
fn mean(items: &[Item], i: usize, above: bool) -> Option<f64> {
    let neighbours = if above { &items[i].above } else { &items[i].below };
    let sum: f64 = neighbours.iter().map(|&j| items[j].x).sum();
    (!neighbours.is_empty()).then(|| sum / neighbours.len() as f64)
}

/// Puts the items of a rank as near to where they are wanted as their widths allow.
fn pack(items: &mut [Item], row: &[usize], wanted: &[f64]) {
    let apart = |items: &[Item], a: usize, b: usize| (items[a].width + items[b].width) / 2.0 + GAP;
    let mut right: Vec<f64> = wanted.to_vec();
    for k in 1..row.len() {
        right[k] = right[k].max(right[k - 1] + apart(items, row[k - 1], row[k]));
    }
    let mut left: Vec<f64> = wanted.to_vec();
    for k in (0..row.len().saturating_sub(1)).rev() {
        left[k] = left[k].min(left[k + 1] - apart(items, row[k], row[k + 1]));
    }
    // Both keep the distances, and so does their mean.
    for (k, &i) in row.iter().enumerate() {
        items[i].x = f64::midpoint(left[k], right[k]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_never_overlap() {
        let from: Vec<Vec<usize>> = (0..60usize)
            .map(|i| (0..i).filter(|j| (i * 7 + j * 5) % 11 == 0 || j + 1 == i && i % 3 > 0).collect())
            .collect();
        let from: Vec<&[usize]> = from.iter().map(Vec::as_slice).collect();
        let sizes: Vec<(f64, f64)> = (0..60).map(|i| (40.0 + f64::from(i % 5) * 30.0, 30.0)).collect();
        let l = layout(&sizes, &from);
        for a in 0..60 {
            for b in a + 1..60 {
                let (p, q) = (l.corners[a], l.corners[b]);
                let apart = p.x + sizes[a].0 <= q.x
                    || q.x + sizes[b].0 <= p.x
                    || p.y + sizes[a].1 <= q.y
                    || q.y + sizes[b].1 <= p.y;
                assert!(apart, "{a} and {b} overlap");
            }
        }
    }
}
