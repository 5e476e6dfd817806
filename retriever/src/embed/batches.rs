//! Cuts a list into batches of bounded size.

/// As many items at a time as fit into `max_weight`, at most `max_items` and at least one, in order.
pub(super) fn batches<T>(
    mut items: &[T],
    max_items: usize,
    max_weight: usize,
    weight: impl Fn(&T) -> usize,
) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let mut total = 0;
        let fitting = items.iter().take(max_items).take_while(|item| {
            total += weight(item);
            total <= max_weight
        });
        let n_items = fitting.count().max(1).min(items.len());
        let (batch, rest) = items.split_at(n_items);
        items = rest;
        (!batch.is_empty()).then_some(batch)
    })
}
