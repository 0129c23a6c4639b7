//! Promise: over https a receiver gets an event only after it has proved its identity.

use e2e::{
    PATIENCE,
    daemon::Daemon,
    receiver::{
        Receiver,
        tls::{Authority, Identity},
    },
    world::World,
};

/// Starts a daemon that trusts only this authority and may call this machine.
async fn daemon(world: &World, authority: &Authority) -> Daemon {
    let arguments = ["--allow-net", "127.0.0.0/8,::1/128"];
    let environment = [("SSL_CERT_FILE", authority.file().as_os_str())];
    let daemon = Daemon::spawn_in(&world.database.url(), &arguments, &environment);
    daemon.ready(&world.database).await;
    daemon
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_self_signed_and_of_another_name() {
    let (world, authority) = (World::new().await, Authority::new());
    let mut imposters = Vec::new();
    for identity in [Identity::SelfSigned, Identity::Expired, Identity::WrongHost] {
        let receiver = Receiver::start_tls(authority.acceptor(identity)).await;
        let id = world.subscribe_url(&receiver.url("/ok"), "retry => '{1h}'").await;
        imposters.push((identity, receiver, id));
    }
    // The certificate is valid for `localhost`, but not for the address in the URL.
    let by_address = Receiver::start_tls(authority.acceptor(Identity::Good)).await;
    let url = by_address.url("/ok").replace("localhost", "127.0.0.1");
    imposters.push((Identity::Good, by_address, world.subscribe_url(&url, "retry => '{1h}'").await));
    let honest = Receiver::start_tls(authority.acceptor(Identity::Good)).await;
    world.subscribe_url(&honest.url("/ok"), "").await;

    let _daemon = daemon(&world, &authority).await;
    world.insert_orders(1, 1).await;
    honest.wait_for("/ok", 1, PATIENCE).await;
    for (identity, receiver, id) in imposters {
        let written = format!("select count(*) = 1 from webhook.attempt where subscription_id = {id}");
        world.database.until(&written, PATIENCE).await;
        let outcome = format!(
            "select outcome || ' ' || (status is null) from webhook.attempt where subscription_id = {id}"
        );
        assert_eq!(world.database.text(&outcome).await.as_deref(), Some("tls true"), "{identity:?}");
        receiver.look(|record| assert_eq!(record.total, 0, "{identity:?} saw a request"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_untrusted_authority() {
    let (world, ours, theirs) = (World::new().await, Authority::new(), Authority::new());
    let stranger = Receiver::start_tls(theirs.acceptor(Identity::Good)).await;
    world.subscribe_url(&stranger.url("/ok"), "retry => '{1h}'").await;
    let _daemon = daemon(&world, &ours).await;
    world.insert_orders(1, 1).await;
    world.database.until("select count(*) = 1 from webhook.attempt where outcome = 'tls'", PATIENCE).await;
    stranger.look(|record| assert_eq!(record.total, 0));
}

/// Certificates from the daemon's configuration apply only to the subscriptions that name them and
/// to their own hosts.
#[tokio::test(flavor = "multi_thread")]
async fn an_authority_for_the_subscription_that_names_it() {
    let (world, authority) = (World::new().await, Authority::new());
    let receiver = Receiver::start_tls(authority.acceptor(Identity::Good)).await;
    let config = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "allow_net = ['127.0.0.0/8', '::1/128']\n[tls.partner]\nhosts = ['localhost']\nca_file = '{0}'\n\
         [tls.elsewhere]\nhosts = ['example.com']\nca_file = '{0}'\n",
        authority.file().display()
    );
    std::fs::write(config.path(), text).unwrap();
    world.subscribe_url(&receiver.url("/ok/named"), "tls => 'partner'").await;
    let mut refused = Vec::new();
    for (option, class) in
        [("retry => '{1h}'", "tls"), ("tls => 'elsewhere'", "refused"), ("tls => 'unknown'", "refused")]
    {
        refused.push((world.subscribe_url(&receiver.url("/ok/no"), option).await, option, class));
    }
    let daemon = Daemon::spawn_with(&world.database.url(), &["--config", config.path().to_str().unwrap()]);
    daemon.ready(&world.database).await;
    world.insert_orders(1, 1).await;
    receiver.wait_for("/ok/named", 1, PATIENCE).await;
    for (id, option, class) in refused {
        let told =
            format!("select min(outcome) = '{class}' from webhook.attempt where subscription_id = {id}");
        world.database.until(&told, PATIENCE).await;
        assert!(receiver.at("/ok/no").is_empty(), "{option}");
    }
}
