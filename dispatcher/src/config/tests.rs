//! Tests of the settings: valid values have the documented meaning, and an error names the setting.

use crate::{
    cli::{Command, Keys},
    config::*,
};
use clap::Parser;

const URL: &str = "postgres://app:hunter2@db.example/shop";

fn layers(file: &str) -> Layers {
    Layers { file: parse(file).unwrap(), database_url: Some(URL.to_owned()), key: None }
}

fn database_url(url: &str) -> Database {
    Database { database_url: Some(url.to_owned()), database_url_file: None }
}

fn dispatch(flags: &str, file: &str) -> Result<DaemonConfig, Error> {
    let line = format!("webhookd run {flags}");
    let cli = Cli::parse_from(line.split_whitespace());
    let Command::Run(run) = &cli.command else { unreachable!() };
    layers(file).dispatch(run)
}

#[test]
fn defaults_are_those_of_the_manual() {
    let dispatch = dispatch("", "").unwrap();
    assert_eq!(dispatch.safety_poll, Some(Duration::from_secs(1)));
    assert!(!dispatch.durable_reads);
    assert_eq!(dispatch.drain_timeout, Duration::from_secs(10));
    assert_eq!(dispatch.memory_bytes_max, 32 << 20);
    assert_eq!(dispatch.max_in_flight_per_host, 512);
    assert_eq!(dispatch.periods.probe_interval, Duration::from_secs(60));
    assert!(!dispatch.way_out.policy.allow_http && dispatch.way_out.policy.allow_nets.is_empty());
    assert_eq!(dispatch.database.config.get_dbname(), Some("shop"));
}

#[test]
fn a_flag_wins_over_the_file() {
    let file = "safety_poll_ms = 5\ndurable_reads = true\nallow_net = ['10.0.0.0/8']\nallow_http = true\nmemory_mb = 1\nmax_in_flight_per_host = 7\n\
                database_url = 'postgres://file.example/file'";
    let from_file = dispatch("", file).unwrap();
    assert_eq!(from_file.safety_poll, Some(Duration::from_millis(5)));
    assert!(from_file.durable_reads);
    assert_eq!(from_file.way_out.policy.allow_nets, ["10.0.0.0/8".parse().unwrap()]);
    assert!(from_file.way_out.policy.allow_http);
    assert_eq!(from_file.memory_bytes_max, 1 << 20);
    assert_eq!(from_file.max_in_flight_per_host, 7);
    assert_eq!(
        from_file.database.config.get_dbname(),
        Some("shop"),
        "the environment wins over the file too"
    );
    let from_flags = dispatch(
        "--probe-interval-ms 3 --safety-poll-ms 0 --allow-net 127.0.0.1 --allow-http=false --memory-mb 2 --max-in-flight-per-host 8 --database-url postgres://f/flag",
        file,
    )
    .unwrap();
    assert_eq!(from_flags.safety_poll, None);
    assert_eq!(from_flags.periods.probe_interval, Duration::from_millis(3));
    assert_eq!(from_flags.periods.failing_after, Duration::from_secs(86_400));
    assert_eq!(from_flags.way_out.policy.allow_nets, ["127.0.0.1/32".parse().unwrap()]);
    assert!(!from_flags.way_out.policy.allow_http);
    assert_eq!(from_flags.memory_bytes_max, 2 << 20);
    assert_eq!(from_flags.max_in_flight_per_host, 8);
    assert_eq!(from_flags.database.config.get_dbname(), Some("flag"));
}

#[test]
fn the_daemon_has_names() {
    let named =
        dispatch("--origin hooks.example", "source = 'https://shop.example'\norigin = 'x.example'").unwrap();
    assert_eq!(named.source, Source::parse("https://shop.example").ok());
    assert_eq!(named.origin.unwrap(), "hooks.example");
}

#[test]
fn the_instance_has_a_default_and_can_be_named() {
    let name = |flags, file| dispatch(flags, file).unwrap().database.instance.to_string();
    assert_eq!(name("", ""), "db.example:5432/shop");
    let file = "instance = 'production'";
    assert_eq!((name("", file), name("--instance b", file)), ("production".to_owned(), "b".to_owned()));
    assert_eq!(name("--instance=", ""), "db.example:5432/shop", "an empty variable counts as none");
    let refused = dispatch("", "instance = \"a\\tb\"").err().unwrap();
    assert!(matches!(&refused, Error::Instance(..)), "{refused}");
}

#[test]
fn the_admin_server_is_asked_for() {
    assert_eq!(dispatch("", "").unwrap().admin, None);
    let file = "admin = '127.0.0.1:1'\nadmin_open_as = 'app'";
    let admin = dispatch("--admin [::1]:2", file).unwrap().admin.unwrap();
    assert_eq!((admin.address, admin.open_as), ("[::1]:2".parse().unwrap(), Some("app".to_owned())));
    assert_eq!(dispatch("--admin 10.0.0.1:3", "").unwrap().admin.unwrap().open_as, None);
    let behind = "admin = '127.0.0.1:1'\nadmin_trust_proxy = ['10.0.0.0/8', '::1']";
    let nets = |flags| dispatch(flags, behind).unwrap().admin.unwrap().trust_proxy;
    assert_eq!(nets(""), ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
    assert_eq!(nets("--admin-trust-proxy 127.0.0.1,10.1.2.3/8").len(), 2);
    let refused = dispatch("--admin-trust-proxy nginx", behind).err().unwrap().to_string();
    assert!(refused.contains("--admin-trust-proxy") && refused.contains("nginx"), "{refused}");
}

#[test]
fn the_page_of_an_owner_has_a_table() {
    let file = "admin = '127.0.0.1:1'\n[portal]\nurl = 'https://hooks.example'\nname = 'Shop'\nrole = 'tenants'\n\
                accent_color = '#0b62c4'\nframe_ancestors = ['https://app.example']";
    let portal = dispatch("", file).unwrap().admin.unwrap().portal;
    assert_eq!(
        (portal.name(), portal.url(), portal.role()),
        ("Shop", Some("https://hooks.example"), Some("tenants"))
    );
    assert!(portal.policy().to_str().unwrap().ends_with("frame-ancestors https://app.example"));
    assert_eq!(layers(file).public_url().unwrap().as_deref(), Some("https://hooks.example"));
    assert_eq!(layers("admin = '127.0.0.1:1'").public_url().unwrap().as_deref(), Some("http://127.0.0.1:1"));
    let default = dispatch("--admin 127.0.0.1:1", "").unwrap().admin.unwrap().portal;
    assert!(default.policy().to_str().unwrap().ends_with("frame-ancestors 'none'"));
    for (line, key) in [
        ("frame_ancestors = ['app.example']", "portal.frame_ancestors"),
        ("accent_color = 'blue'", "portal.accent_color"),
        ("url = 'hooks.example'", "portal.url"),
        ("name = ''", "portal.name"),
        ("logo_file = '/nowhere.png'", "/nowhere.png"),
    ] {
        let refused =
            dispatch("--admin 127.0.0.1:1", &format!("[portal]\n{line}")).err().unwrap().to_string();
        assert!(refused.contains(key), "{refused}");
    }
    assert!(parse("[portal]\ncolor = 'x'").unwrap_err().1.starts_with("unknown field `color`"));
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let (line, problem) = parse("allow_http = true\nsafty_poll_ms = 5\n").unwrap_err();
    assert_eq!(line, 2);
    assert!(problem.starts_with("unknown field `safty_poll_ms`"), "{problem}");
}

#[test]
fn nothing_repeats_a_password() {
    for file in [
        format!("memory_mb = '{URL}'"),
        format!("database_url = ['{URL}']"),
        format!("database_url = {URL}"),
        format!("database_url = '{URL}"),
        format!("database_url = '{URL}' x"),
        format!("log_format = '{URL}'"),
        format!("allow_http = '{URL}'"),
    ] {
        let (line, problem) = parse(&file).unwrap_err();
        assert_eq!(line, 1, "{problem}");
        assert!(!problem.contains("hunter2") && !problem.is_empty(), "{problem}");
    }
    for url in [
        "postgres://app:hunter2@db.example:port/shop",
        "hunter2",
        "host=a hunter2=b",
        "postgresq://app:hunter2@db.example/shop?connect_timeout=5",
    ] {
        let flags = database_url(url);
        let text = Layers::default().database(&flags).unwrap_err().to_string();
        assert!(text.contains("invalid database URL") && !text.contains("hunter2"), "{text}");
    }
    assert!(!format!("{:?}", dispatch("", "").unwrap().database).contains("hunter2"));
}

#[test]
fn what_is_out_of_range_is_named() {
    for (flags, want) in [
        ("--memory-mb 0", "memory_mb"),
        ("--max-in-flight-per-host 0", "max_in_flight_per_host"),
        ("--safety-poll-ms 3600001", "safety_poll_ms"),
        ("--drain-timeout-ms 99999999", "drain_timeout_ms"),
        ("--allow-net 10.0.0.0/33", "10.0.0.0/33"),
        ("--allow-net intranet", "intranet"),
        ("--deny-net 10.0.0.0/33", "--deny-net"),
        ("--allow-port 0", "invalid port `0`"),
        ("--allow-port 443,http", "invalid port `http`"),
        ("--source /shop?x", "/shop?x"),
        ("--origin https://hooks.example", "https://hooks.example"),
        ("--admin-open-as app", "requires --admin"),
        ("--admin 0.0.0.0:1 --admin-open-as app", "requires a loopback address; 0.0.0.0:1 is not one"),
    ] {
        let text = dispatch(flags, "").map(|_| ()).unwrap_err().to_string();
        assert!(text.contains(want), "{flags}: {text}");
    }
}

#[test]
fn the_url_may_lie_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("url");
    std::fs::write(&path, "postgres://app:hunter2@db.example/filed?sslmode=require\n").unwrap();
    let of = |flags: &str, file: &str| dispatch(flags, file).map(|dispatch| dispatch.database);
    let flag = format!("--database-url-file {}", path.display());
    let named = of(&flag, "").unwrap();
    assert_eq!(named.config.get_dbname(), Some("filed"), "a flag wins over the environment");
    assert!(!format!("{named:?}").contains("hunter2"));
    let within = format!("database_url_file = '{}'", path.display());
    let layers = Layers { file: parse(&within).unwrap(), ..Layers::default() };
    let flags = Database { database_url: None, database_url_file: None };
    assert_eq!(layers.database(&flags).unwrap().config.get_dbname(), Some("filed"));
    let error = of("--database-url-file /nowhere/url", "").unwrap_err();
    assert_eq!(error.to_string(), "cannot read /nowhere/url: entity not found");
}

#[test]
fn the_way_out_is_as_the_file_says() {
    let file = "proxy = 'http://user:hunter2@proxy.example:3128'\nproxy_bypass = ['10.0.0.0/8', '.corp.example']\n\
                proxy_resolves = true\nallow_port = ['443', '8000-8999']\ndeny_net = ['8.8.8.8']";
    let from_file = dispatch("", file).unwrap().way_out;
    let proxy = from_file.proxy.unwrap();
    assert_eq!((format!("{proxy:?}").as_str(), proxy.resolves()), ("Http proxy.example:3128", true));
    assert_eq!(from_file.policy.ports.to_string(), "443,8000-8999");
    assert_eq!(from_file.policy.deny_nets, ["8.8.8.8/32".parse().unwrap()]);
    let flags =
        "--proxy socks5://other.example --proxy-resolves=false --allow-port 443 --deny-net 9.9.9.0/24";
    let from_flags = dispatch(flags, file).unwrap().way_out;
    let proxy = from_flags.proxy.unwrap();
    assert_eq!((format!("{proxy:?}").as_str(), proxy.resolves()), ("Socks5 other.example:1080", false));
    assert_eq!(from_flags.policy.ports.to_string(), "443");
    assert!(dispatch("", "").unwrap().way_out.proxy.is_none());
    for (flags, file, want) in [
        ("--proxy ftp://user:hunter2@a", "", "invalid --proxy"),
        ("--proxy http://a --proxy-bypass a/b", "", "--proxy-bypass: invalid host `a/b`"),
        ("--ca-file /nowhere/ca.pem", "", "cannot read /nowhere/ca.pem"),
        ("", "[tls.partner]\nhosts = []", "tls.partner has no hosts"),
        ("", "[tls.partner]\nhosts = ['a.example']", "tls.partner must set"),
        ("--key-file /nowhere/key", "", "cannot read /nowhere/key"),
        ("--secrets-dir /nowhere/secrets", "", "cannot read /nowhere/secrets"),
    ] {
        let text = dispatch(flags, file).map(drop).unwrap_err().to_string();
        assert!(text.contains(want) && !text.contains("hunter2"), "{want}: {text}");
    }
    assert_eq!(parse("[tls.partner]\nhosts = ['a']\nkey = 'x'").unwrap_err().0, 3);
}

#[test]
fn keys_come_from_the_environment_or_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let [one, other] = std::array::from_fn(|_| seal::PrivateKey::generate().unwrap());
    std::fs::write(&path, format!("# mine\n{}\n", *one.reveal())).unwrap();
    let flags = Keys { key_file: Some(path.clone()), secrets_dir: None };
    assert_eq!(layers("").keys(&flags).unwrap().current(), Some(&one));
    let none = Keys { key_file: None, secrets_dir: None };
    let named = format!("key_file = '{}'", path.display());
    let with_variable = Layers { key: Some(other.reveal()), ..layers(&named) };
    assert_eq!(with_variable.keys(&flags).unwrap().current(), Some(&one), "a flag wins");
    assert_eq!(with_variable.keys(&none).unwrap().current(), Some(&other), "then the environment");
    assert_eq!(layers(&named).keys(&none).unwrap().current(), Some(&one), "then the configuration");
    assert!(layers("").keys(&none).unwrap().current().is_none());
    std::fs::write(&path, "# nothing yet\n").unwrap();
    assert_eq!(layers("").keys(&flags).unwrap_err(), Error::NoKey(path.clone()));
    std::fs::write(&path, format!("{} hunter2", *one.reveal())).unwrap();
    let text = layers("").keys(&flags).unwrap_err().to_string();
    assert!(text.contains("key 2") && !text.contains("hunter2"), "{text}");
}

#[test]
fn without_a_database_there_is_nothing_to_do() {
    let flags = database_url(" ");
    assert_eq!(Layers::default().database(&flags).map(drop), Err(Error::NoDatabase));
}

#[test]
fn spans_are_asked_for() {
    assert_eq!(dispatch("", "").unwrap().traces, None);
    let file = "otlp_endpoint = 'http://file.example:4318'\notlp_ratio = 0.5";
    let traces = dispatch("--otlp-endpoint http://flag.example:4318 --ca-file /ca.pem", file);
    // The CA file does not exist. It is also read for receivers, so `dispatch` fails before the
    // destination of spans matters.
    assert!(traces.is_err());
    let traces = dispatch("--otlp-endpoint http://flag.example:4318", file).unwrap().traces.unwrap();
    assert_eq!(traces.endpoint.unwrap().as_str(), "http://flag.example:4318/v1/traces");
    assert!((traces.ratio - 0.5).abs() < f64::EPSILON);
    assert_eq!(dispatch("--otlp-endpoint 127.0.0.1:4318", "").map(|_| ()).unwrap_err(), Error::Collector);
    assert!(matches!(dispatch("--otlp-ratio 1.5", ""), Err(Error::OutOfRange { setting: "otlp_ratio", .. })));
}
