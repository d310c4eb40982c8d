//! The configuration: what the environment may say and what is refused.

use std::time::Duration;

use revenant_ssp::Config;
use revenant_ssp::config::ConfigError;
use revenant_ssp::edge::RefMode;

fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::from_lookup(|name| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn without_secret_and_address_it_listens_on_this_machine_alone() {
    let config = read(&[]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8667");
    assert!(config.secret.is_none());
    assert!(config.ssp_id.starts_with("ssp-"));
    assert_eq!(config.database.url, "ws://127.0.0.1:8000");
    assert_eq!(config.throttle, Duration::from_millis(100));
}

#[test]
fn with_a_secret_it_listens_on_every_address() {
    assert_eq!(read(&[("SPKY_AUTH_SECRET", "s")]).unwrap().listen.to_string(), "0.0.0.0:8667");
}

#[test]
fn a_public_address_without_a_secret_is_refused_unless_it_is_asked_for() {
    let public = ("SPKY_SSP_LISTEN_ADDR", "0.0.0.0:8667");
    let error = read(&[public]).unwrap_err();
    assert!(matches!(error, ConfigError::PublicWithoutSecret { .. }));
    assert!(error.to_string().contains("SPKY_AUTH_SECRET"));
    assert!(read(&[public, ("SPKY_ALLOW_NO_AUTH", "1")]).is_ok());
    assert!(read(&[public, ("SPKY_AUTH_SECRET", "s")]).is_ok());
    assert!(read(&[("SPKY_SSP_LISTEN_ADDR", "127.0.0.1:9")]).is_ok());
}

#[test]
fn every_bad_value_is_refused_by_the_name_of_its_variable() {
    let bad = [
        ("SPKY_SSP_LISTEN_ADDR", "8667"),
        ("SPKY_SCHEDULER_URL", "scheduler:9667"),
        ("SPKY_SSP_ID", "a b"),
        ("SPKY_SSP_ADVERTISE_ADDR", "ftp://x"),
        ("HEARTBEAT_INTERVAL_MS", "0"),
        ("HEARTBEAT_INTERVAL_MS", "often"),
        ("TTL_CLEANUP_INTERVAL_SECS", "-1"),
        ("SPKY_SSP_REF_MODE", "both"),
        ("SPKY_SSP_QUERY_UPDATE_THROTTLE_MS", "1e3"),
        ("SPKY_SSP_ANON_LIVE_QUERIES", "perhaps"),
        ("SPKY_SSP_FEED_WINDOW_BYTES", "1"),
    ];
    for (variable, value) in bad {
        let error = read(&[(variable, value)]).unwrap_err().to_string();
        assert!(error.starts_with(variable), "{error}");
    }
}

#[test]
fn the_documented_variables_are_read() {
    let config = read(&[
        ("SPKY_AUTH_SECRET", "s"),
        ("SPKY_SSP_LISTEN_ADDR", "0.0.0.0:9000"),
        ("SPKY_SCHEDULER_URL", "http://scheduler:9667/"),
        ("SPKY_SSP_ID", "ssp-1"),
        ("SPKY_SSP_ADVERTISE_ADDR", "ssp-1:9000"),
        ("SPKY_DB_WS", "ws://db:8000"),
        ("SPKY_DB_URL", "http://db:8000"),
        ("SPKY_DB_USER", "u"),
        ("SPKY_DB_PASS", "p"),
        ("SPKY_DB_NS", "n"),
        ("SPKY_DB_NAME", "d"),
        ("HEARTBEAT_INTERVAL_MS", "250"),
        ("TTL_CLEANUP_INTERVAL_SECS", "7"),
        ("SPKY_SSP_REF_MODE", "single"),
        ("SPKY_SSP_QUERY_UPDATE_THROTTLE_MS", "0"),
        ("SPKY_JOB_CONFIG", "[]"),
    ])
    .unwrap();
    assert_eq!(config.scheduler, "http://scheduler:9667");
    assert_eq!(config.advertise.as_deref(), Some("http://ssp-1:9000"));
    assert_eq!((config.ssp_id.as_str(), config.ref_mode), ("ssp-1", RefMode::Single));
    assert_eq!(
        (config.database.url.as_str(), config.database.pass.reveal()),
        ("http://db:8000", "p")
    );
    assert_eq!((config.throttle, config.ttl_interval), (Duration::ZERO, Duration::from_secs(7)));
    assert_eq!(config.without_effect, ["SPKY_JOB_CONFIG"]);
    assert!(!format!("{config:?}").contains("\"p\""), "secrets do not show");
}

#[test]
fn a_secret_may_be_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, "s3cret\n").unwrap();
    let path = path.to_str().unwrap();
    let config = read(&[("SPKY_AUTH_SECRET_FILE", path)]).unwrap();
    assert_eq!(config.secret.as_ref().map(|secret| secret.reveal()), Some("s3cret"));
    let both = read(&[("SPKY_AUTH_SECRET_FILE", path), ("SPKY_AUTH_SECRET", "s")]);
    assert!(matches!(both, Err(ConfigError::Bad { variable: "SPKY_AUTH_SECRET", .. })));
    let error = read(&[("SPKY_DB_PASS_FILE", "/nowhere/pass")]).unwrap_err().to_string();
    assert!(error.starts_with("SPKY_DB_PASS_FILE names \"/nowhere/pass\""), "{error}");
}
