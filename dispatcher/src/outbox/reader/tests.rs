use super::*;
use crate::subscription::Subscription;

#[test]
fn changed_subscriptions_are_replaced_added_or_gone() {
    let table = |rows: &[(i64, usize)]| -> Subscriptions {
        let row = |(id, in_flight_max): &(i64, usize)| {
            (*id, Arc::new(Subscription { in_flight_max: *in_flight_max, ..Subscription::sample(*id) }))
        };
        rows.iter().map(row).collect()
    };
    let new = replace(&table(&[(1, 10), (2, 10), (3, 10)]), &[2, 3, 4], table(&[(2, 20), (4, 20)]));
    let mut limits: Vec<(i64, usize)> = new.values().map(|s| (s.id, s.in_flight_max)).collect();
    limits.sort_unstable();
    assert_eq!(limits, [(1, 10), (2, 20), (4, 20)]);
}
