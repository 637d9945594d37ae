//! A simulation of what the scheduler's profile in k8s/placement saves.

use spotter_tests::energy::{Placement, day};

#[test]
fn packing_saves_nodes_and_energy_where_pods_are_moved_together() {
    let placements = [Placement::Spread, Placement::Pack, Placement::PackAndMove];
    let days = placements.map(|placement| {
        let day = day(placement);
        println!(
            "{placement:?}: {:.1} of 12 nodes on, {:.1} kWh a day, {} pods moved",
            day.nodes, day.kilowatt_hours, day.moved
        );
        day
    });
    let [spread, pack, moved] = days;
    // Each step needs fewer nodes. Without moves, the pods that ReplicaSets remove undo most of the packing.
    assert!(spread.nodes >= pack.nodes && pack.nodes > moved.nodes);
    assert!(moved.kilowatt_hours < 0.75 * spread.kilowatt_hours);
    assert!(pack.kilowatt_hours <= spread.kilowatt_hours);
    assert_eq!(spread.moved + pack.moved, 0);
}
