//! Compares the shelf with a simple, slow one that holds everything in one list, and shows its purpose by example.

use proptest::prelude::*;

use super::*;

const BUDGET: u64 = 100;

fn key(n: u8) -> BlobKey {
    BlobKey([n; 32])
}

/// Asks for a chunk of one layer and offers it if it is not held.
fn request(shelf: &mut Shelf<u8>, n: u8, bytes: u64, cost: u64) {
    shelf.touch(&key(n));
    if shelf.get(&key(n), 0).is_none() {
        shelf.offer(&key(n), 0, (&n, bytes), cost);
    }
}

fn holds(shelf: &Shelf<u8>) -> Vec<u8> {
    (0..=255)
        .filter(|n| shelf.get(&key(*n), 0).is_some())
        .collect()
}

#[test]
fn free_space_is_filled_at_once_and_a_scan_moves_nobody_out() {
    let mut shelf = Shelf::new(BUDGET);
    request(&mut shelf, 1, 60, 1000);
    request(&mut shelf, 2, 40, 1000);
    (10..200).for_each(|n| request(&mut shelf, n, 40, 1_000_000));
    assert_eq!(holds(&shelf), [1, 2]);
    // Asked for a second time, a chunk that is worth more gets in.
    request(&mut shelf, 10, 40, 1_000_000);
    assert!(holds(&shelf).contains(&10));
}

#[test]
fn what_is_asked_for_more_or_costs_more_per_byte_stays() {
    let mut shelf = Shelf::new(BUDGET);
    (0..5).for_each(|_| request(&mut shelf, 1, 50, 1000));
    (0..2).for_each(|_| request(&mut shelf, 2, 50, 1000));
    (0..3).for_each(|_| request(&mut shelf, 3, 50, 1000));
    assert_eq!(holds(&shelf), [1, 3], "2 had fewer requests than 1");
    let mut shelf = Shelf::new(BUDGET);
    (0..2).for_each(|_| request(&mut shelf, 1, 50, 9000));
    (0..2).for_each(|_| request(&mut shelf, 2, 50, 1000));
    (0..2).for_each(|_| request(&mut shelf, 3, 50, 2000));
    assert_eq!(holds(&shelf), [1, 3], "2 is cheaper to read again than 1");
}

#[test]
fn what_was_popular_long_ago_makes_room_in_the_end() {
    let mut shelf = Shelf::new(BUDGET);
    (0..50).for_each(|_| request(&mut shelf, 1, 100, 1000));
    let n_requests = (1..).find(|_| {
        request(&mut shelf, 2, 100, 1000);
        holds(&shelf) == [2]
    });
    let n_requests = n_requests.expect("it gets in");
    assert!((3..40).contains(&n_requests), "after {n_requests} requests");
}

#[test]
fn a_refused_chunk_is_not_looked_at_layer_by_layer() {
    let mut shelf = Shelf::new(BUDGET);
    (0..9).for_each(|_| request(&mut shelf, 1, 100, 1000));
    (0..2).for_each(|_| shelf.touch(&key(2)));
    let mut clock = || {
        shelf.offer(&key(2), 0, (&2, 10), 100);
        shelf.clock
    };
    let once = clock();
    assert!(once > 0.0);
    assert_eq!(clock(), once, "the clock rises once for each request");
}

#[test]
fn what_is_removed_is_gone_and_its_bytes_are_free() {
    let mut shelf = Shelf::new(BUDGET);
    request(&mut shelf, 1, 60, 10);
    assert!(shelf.remove(&key(1)).is_some() && shelf.remove(&key(1)).is_none());
    assert_eq!((shelf.bytes(), shelf.len()), (0, 0));
    request(&mut shelf, 2, 100, 10);
    assert_eq!(holds(&shelf), [2]);
}

#[test]
fn without_a_budget_nothing_is_held() {
    let mut shelf = Shelf::new(0);
    (0..3).for_each(|_| request(&mut shelf, 1, 1, 10));
    assert_eq!(shelf.len(), 0);
}

/// One thing that happens to a shelf.
#[derive(Debug, Clone)]
enum Step {
    Touch(u8),
    Offer {
        n: u8,
        layer: usize,
        bytes: u64,
        cost: u64,
    },
    Remove(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0u8..6;
    prop_oneof![
        4 => n.clone().prop_map(Step::Touch),
        8 => (n.clone(), 0usize..3, 1u64..60, 1u64..1000)
            .prop_map(|(n, layer, bytes, cost)| Step::Offer { n, layer, bytes, cost }),
        1 => n.prop_map(Step::Remove),
    ]
}

/// A chunk of the slow shelf.
#[derive(Debug, Clone, Default)]
struct SlowChunk {
    /// Layer and bytes.
    layers: Vec<(usize, u64)>,
    cost: u64,
    requests: u32,
    priority: f64,
}

impl SlowChunk {
    fn bytes(&self) -> u64 {
        self.layers.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// The rules once more, in the order in which they are described.
#[derive(Default)]
struct Slow {
    chunks: Vec<(u8, SlowChunk)>,
    touches: [u32; 6],
    refused: [bool; 6],
    clock: f64,
}

impl Slow {
    fn chunk(&self, n: u8) -> Option<&SlowChunk> {
        self.chunks
            .iter()
            .find(|(m, _)| *m == n)
            .map(|(_, chunk)| chunk)
    }

    fn bytes(&self) -> u64 {
        self.chunks.iter().map(|(_, chunk)| chunk.bytes()).sum()
    }

    fn priority(&self, chunk: &SlowChunk) -> f64 {
        self.clock + f64::from(chunk.requests) * chunk.cost as f64 / chunk.bytes() as f64
    }

    fn put(&mut self, n: u8, mut chunk: SlowChunk) {
        chunk.priority = self.priority(&chunk);
        self.chunks.retain(|(m, _)| *m != n);
        self.chunks.push((n, chunk));
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Touch(n) => {
                self.touches[usize::from(n)] += 1;
                self.refused[usize::from(n)] = false;
                if let Some(mut chunk) = self.chunk(n).cloned() {
                    chunk.requests += 1;
                    self.put(n, chunk);
                }
            }
            Step::Remove(n) => self.chunks.retain(|(m, _)| *m != n),
            Step::Offer {
                n,
                layer,
                bytes,
                cost,
            } => self.offer(n, layer, bytes, cost),
        }
    }

    fn offer(&mut self, n: u8, layer: usize, bytes: u64, cost: u64) {
        let mut chunk = self.chunk(n).cloned().unwrap_or_default();
        let is_held = chunk.layers.iter().any(|(held, _)| *held == layer);
        if self.refused[usize::from(n)] || is_held {
            return;
        }
        chunk.layers.push((layer, bytes));
        chunk.cost += cost;
        chunk.requests = chunk.requests.max(self.touches[usize::from(n)]);
        // Those that may go for it, lowest first.
        let mut lower: Vec<(f64, u8)> = self
            .chunks
            .iter()
            .filter(|(m, other)| *m != n && other.priority < self.priority(&chunk))
            .map(|(m, other)| (other.priority, *m))
            .collect();
        lower.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut rest = self.chunks.clone();
        let mut clock = self.clock;
        let total = |rest: &[(u8, SlowChunk)]| rest.iter().map(|(_, c)| c.bytes()).sum::<u64>();
        if chunk.requests >= REQUESTS_TO_EVICT {
            for (priority, victim) in lower {
                if total(&rest) + bytes <= BUDGET {
                    break;
                }
                rest.retain(|(m, _)| *m != victim);
                clock = clock.max(priority);
            }
        }
        if total(&rest) + bytes <= BUDGET {
            (self.chunks, self.clock) = (rest, clock);
            self.put(n, chunk);
        } else {
            self.refused[usize::from(n)] = true;
            if chunk.requests >= REQUESTS_TO_EVICT {
                self.clock = self.clock.max(self.priority(&chunk));
            }
        }
    }
}

proptest! {
    #[test]
    fn it_does_what_the_slow_one_does(steps in prop::collection::vec(step(), 1..200)) {
        let (mut shelf, mut slow) = (Shelf::new(BUDGET), Slow::default());
        for step in &steps {
            match *step {
                Step::Touch(n) => shelf.touch(&key(n)),
                Step::Offer { n, layer, bytes, cost } => {
                    shelf.offer(&key(n), layer, (&n, bytes), cost);
                }
                Step::Remove(n) => drop(shelf.remove(&key(n))),
            }
            slow.run(step);
            for n in 0..6 {
                for layer in 0..3 {
                    let held = slow.chunk(n).is_some_and(|c| c.layers.iter().any(|(l, _)| *l == layer));
                    prop_assert_eq!(shelf.get(&key(n), layer).is_some(), held, "{} {} {:?}", n, layer, step);
                }
            }
            prop_assert_eq!(shelf.bytes(), slow.bytes());
            prop_assert_eq!(shelf.len(), slow.chunks.len());
            prop_assert_eq!(shelf.order.len(), shelf.chunks.len());
            prop_assert!(shelf.bytes() <= BUDGET);
        }
    }
}
