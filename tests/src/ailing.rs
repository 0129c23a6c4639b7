//! Six receivers, each in another state of health: failing, gave up, blocked by our settings,
//! paused, slow, and healthy. For tests and pictures of what an operator sees.

use crate::{PATIENCE, receiver::Behaviour, world::World};

/// The names of the subscriptions, the most urgent first, and their states.
pub const RECEIVERS: [(&str, &str); 6] = [
    ("crm", "failing"),
    ("billing", "gave_up"),
    ("warehouse", "blocked"),
    ("data lake", "paused"),
    ("legacy portal", "slow"),
    ("search index", "healthy"),
];

/// The paths of the failing receivers, and of the slow one.
pub const CRM: &str = "/status/503/crm/v2/hooks/orders";
pub const BILLING: &str = "/status/500/billing/webhooks";
pub const LEGACY: &str = "/slow/2000/legacy/portal/api";

/// Subscribes the six, in an order that is not that of their urgency.
pub async fn subscribe(world: &World) {
    let named = |name: &str, more: &str| format!("name => '{name}', events => '{{order.*}}'{more}");
    world.subscribe_with("/ok/search/index", &named("search index", "")).await;
    world.subscribe_with(LEGACY, &named("legacy portal", ", max_in_flight => 1")).await;
    let paused = world.subscribe_with("/ok/lake", &named("data lake", "")).await;
    world.database.run(&format!("select webhook_pause({paused}, 'maintenance until 04:00 UTC')")).await;
    world.subscribe_url("https://10.1.2.3/hooks/orders", &named("warehouse", ", retry => '{1h}'")).await;
    world.subscribe_with(BILLING, &named("billing", ", retry => '{}', max_in_flight => 1")).await;
    world.subscribe_with(CRM, &named("crm", ", retry => '{1s,1s,1s,1h}'")).await;
    // Its failures are not in a row, so it does not count as failing.
    world.receiver.behave_by(BILLING, |request, _| {
        let order = request.json()["data"]["id"].as_i64().unwrap_or_default();
        if order % 8 == 0 { Behaviour::Ok } else { Behaviour::Status(500) }
    });
}

/// Inserts these orders, the last of them a multiple of eight, and waits until each receiver is in
/// its state.
///
/// # Panics
/// If that takes longer than four times [`PATIENCE`]. A receiver is slow after half a minute.
pub async fn fall_ill(world: &World, first: i64, count: i64) {
    world.insert_orders(first, count).await;
    let states = RECEIVERS.map(|(name, state)| format!("('{name}', '{state}')")).join(", ");
    let all = format!(
        "select count(*) = 6 from webhook.subscription_health h join (values {states}) s (name, state) using (name, state)"
    );
    if !world.database.becomes(&all, 4 * PATIENCE).await {
        let found = "select string_agg(format('%s: %s', name, state), ', ') from webhook.subscription_health";
        panic!("not in these states: {:?}", world.database.text(found).await);
    }
}
