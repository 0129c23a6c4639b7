//! Promise: without `--allow-net`, loopback and private addresses are blocked in every spelling,
//! and no request is sent.

use e2e::{PATIENCE, daemon::Daemon, world::World};

#[tokio::test(flavor = "multi_thread")]
async fn without_allow_net_and_with_another_range() {
    for arguments in [&[][..], &["--allow-net", "10.0.0.0/8"][..]] {
        let world = World::new().await;
        let port = world.receiver.url("").rsplit_once(':').expect("a port").1.to_owned();
        let hosts = [
            "127.0.0.1",
            "localhost",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "192.168.1.1",
            "169.254.169.254",
            "[fd00::1]",
        ];
        for host in hosts {
            world
                .subscribe_url(&format!("http://{host}:{port}/ok"), "timeout => '5 s', retry => '{1h}'")
                .await;
        }
        let _daemon = Daemon::spawn_with(&world.database.url(), arguments);
        world.insert_orders(1, 1).await;
        let all = format!("select count(*) = {} from webhook.attempt", hosts.len());
        world.database.until(&all, PATIENCE).await;
        let odd = "select string_agg(s.url || ' ' || a.outcome, ', ') from webhook.attempt a
                   join webhook.subscription s on s.id = a.subscription_id where a.outcome <> 'refused'";
        assert_eq!(world.database.text(odd).await, None, "every one is refused");
        assert_eq!(world.receiver.look(|record| record.total), 0, "nothing was sent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_allowed_is_called() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let _daemon = Daemon::spawn_with(&world.database.url(), &["--allow-net", "127.0.0.1/32"]);
    world.insert_orders(1, 1).await;
    world.receiver.wait_for("/ok", 1, PATIENCE).await;
}
