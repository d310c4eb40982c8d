//! Settings: what is documented is read, and what cannot be used is refused by name.

use std::collections::BTreeMap;
use std::time::Duration;

use revenant_fanout::assign::Balance;
use revenant_fanout::{Config, ConfigError, Transport};

fn with(variables: &[(&str, &str)], file: Option<&str>) -> Result<Config, ConfigError> {
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let file = file.map(|text| ("sp00ky.yml", text));
    Config::from_parts(|name| variables.get(name).cloned(), file)
}

#[test]
fn defaults_listen_on_this_machine_only() {
    let config = with(&[], None).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:9667");
    assert_eq!(config.database.url, "ws://localhost:8000");
    assert_eq!(config.log_dir.to_str(), Some("./data/event_wal.log"));
    assert_eq!(config.state_path().to_str(), Some("./data/event_wal.log.state"));
    assert_eq!(config.transport, Transport::Changefeed);
    assert!(config.remarks.is_empty());
}

#[test]
fn a_variable_wins_over_a_key_and_unknown_keys_are_remarked() {
    let file = "
db: { url: 'ws://db:8000', namespace: n, database: d, username: u, password: p }
load_balance: round_robin
heartbeat_interval_ms: 1
heartbeat_timeout_ms: 700
bootstrap_chunk_size: 5
job_tables: []
replica_db_path: /app/data/replica
wal_path: /app/data/event_wal.log
ingest_host: 127.0.0.1
ingest_port: 9999
snapshot_update_interval_secs: 7
max_buffer_per_ssp: 12
bootstrap_timeout_secs: 9
ssp_poll_interval_ms: 40
health_check_interval_secs: 3
mode: cluster
surrealdb: { namespace: main }
colour: green
";
    let config = with(&[("SPKY_DB_NS", "main"), ("SPKY_AUTH_SECRET", "s")], Some(file)).unwrap();
    assert_eq!(config.database.namespace, "main");
    assert_eq!(config.database.name, "d");
    assert_eq!(config.database.pass.reveal(), "p");
    assert_eq!(config.balance, Balance::RoundRobin);
    assert_eq!(config.heartbeat_timeout, Duration::from_millis(700));
    assert_eq!(config.checkpoint_interval, Duration::from_secs(7));
    assert_eq!(config.listen.to_string(), "127.0.0.1:9999");
    assert_eq!(config.lag_warning, 12);
    let remarks = config.remarks.join("; ");
    assert!(remarks.contains("colour is not known"), "{remarks}");
    assert!(remarks.contains("heartbeat_interval_ms has no effect"), "{remarks}");
    assert!(!remarks.contains("mode"), "{remarks}");
}

#[test]
fn a_bad_value_is_refused_with_its_name_and_itself() {
    let refused = |variables: &[(&str, &str)], file| with(variables, file).unwrap_err().to_string();
    let text = refused(&[("SPKY_HEARTBEAT_TIMEOUT_MS", "soon")], None);
    assert!(text.starts_with("SPKY_HEARTBEAT_TIMEOUT_MS is \"soon\": "), "{text}");
    let text = refused(&[], Some("load_balance: best"));
    assert!(text.starts_with("load_balance is \"best\": "), "{text}");
    let text = refused(&[], Some("ingest_port: 70000"));
    assert!(text.starts_with("ingest_port is \"70000\": "), "{text}");
    let text = refused(&[("SPKY_INGEST_TRANSPORT", "pigeon")], None);
    assert!(text.contains("changefeed or http"), "{text}");
    let text = refused(&[("SPKY_SCHEDULER_BACKENDS", "{")], None);
    assert!(text.starts_with("SPKY_SCHEDULER_BACKENDS is"), "{text}");
    let text = refused(&[], Some("- a\n- b"));
    assert!(text.contains("sp00ky.yml"), "{text}");
}

#[test]
fn settings_of_the_logs_disk_are_read_in_their_units_and_refused_by_name() {
    let default = with(&[], None).unwrap();
    let of = |config: &Config| {
        let archive = config.archive_dir.clone();
        (config.ballast_bytes, config.scrub_bytes_per_s, archive, config.compress_level)
    };
    assert_eq!(of(&default), (0, 2 << 20, None, 0));
    let set = [
        ("SPKY_WAL_BALLAST_MB", "64"),
        ("SPKY_WAL_SCRUB_MB_PER_S", "0"),
        ("SPKY_WAL_ARCHIVE_DIR", "/mnt/archive"),
        ("SPKY_WAL_COMPRESS_LEVEL", "19"),
    ];
    let config = with(&set, None).unwrap();
    assert_eq!(of(&config), (64 << 20, 0, Some("/mnt/archive".into()), 19));
    // An empty value is none.
    let empty = set.map(|(name, _)| (name, ""));
    assert_eq!(of(&with(&empty, None).unwrap()), of(&default));
    for (name, bad) in [
        ("SPKY_WAL_BALLAST_MB", "1048577"),
        ("SPKY_WAL_BALLAST_MB", "-1"),
        ("SPKY_WAL_BALLAST_MB", "64MB"),
        ("SPKY_WAL_SCRUB_MB_PER_S", "1025"),
        ("SPKY_WAL_SCRUB_MB_PER_S", "0.5"),
        ("SPKY_WAL_COMPRESS_LEVEL", "20"),
        ("SPKY_WAL_COMPRESS_LEVEL", "zstd"),
    ] {
        let text = with(&[(name, bad)], None).unwrap_err().to_string();
        assert!(text.starts_with(&format!("{name} is \"{bad}\": ")), "{text}");
    }
}

#[test]
fn a_public_address_without_a_secret_is_refused() {
    let refused = with(&[], Some("ingest_host: 0.0.0.0")).unwrap_err();
    assert!(matches!(refused, ConfigError::PublicWithoutSecret { .. }));
    assert!(refused.to_string().contains("SPKY_AUTH_SECRET"));
    let open = with(&[("SPKY_ALLOW_NO_AUTH", "1")], Some("ingest_host: 0.0.0.0")).unwrap();
    assert!(open.secret.is_none());
    let closed = with(&[("SPKY_AUTH_SECRET", "s")], None).unwrap();
    assert_eq!(closed.listen.to_string(), "0.0.0.0:9667");
}

#[test]
fn a_secret_comes_from_a_file_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, "hush\n").unwrap();
    let path = path.to_str().unwrap();
    let config = with(&[("SPKY_AUTH_SECRET_FILE", path)], None).unwrap();
    assert_eq!(config.secret.as_ref().unwrap().reveal(), "hush");
    assert!(!format!("{config:?}").contains("hush"));
    assert!(with(&[("SPKY_AUTH_SECRET_FILE", path), ("SPKY_AUTH_SECRET", "x")], None).is_err());
    let missing = with(&[("SPKY_AUTH_SECRET_FILE", "/nowhere")], None).unwrap_err();
    assert!(missing.to_string().contains("SPKY_AUTH_SECRET_FILE"), "{missing}");
}
