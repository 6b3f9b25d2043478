//! Settings: where they come from, what they must be, and how all that is wrong is said at once.

use std::io::Write;
use std::time::Duration;

use secrecy::ExposeSecret;
use wxnotify::address::Route;
use wxnotify::config::{BadSetting, SETTINGS, Settings, Sources};

const URL: &str = "postgres://notifier:db-password@db.example/notifications";

fn sources() -> Sources {
    Sources::default().with("DATABASE_URL", URL)
}

fn with_file(toml: &str) -> (Sources, tempfile::NamedTempFile) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(toml.as_bytes()).unwrap();
    let sources = Sources {
        file: Some(file.path().to_owned()),
        ..sources()
    };
    (sources, file)
}

/// What is wrong with `sources`; there must be something.
fn bad(sources: &Sources) -> Vec<BadSetting> {
    Settings::load(sources).unwrap_err().bad_settings
}

/// The one thing that is wrong with `name` set to `value`.
fn only_bad(name: &str, value: &str) -> BadSetting {
    let mut bad = bad(&sources().with(name, value));
    assert_eq!(bad.len(), 1, "{name}={value}: {bad:?}");
    assert_eq!(bad[0].name, name);
    bad.remove(0)
}

#[test]
fn the_defaults_are_those_of_the_table_and_hold() {
    let settings = Settings::load(&sources()).unwrap();

    assert_eq!(settings.concurrency, 64);
    assert_eq!(settings.connect_timeout, Duration::from_secs(3));
    assert_eq!(settings.request_timeout, Duration::from_secs(10));
    assert_eq!(settings.lease, Duration::from_secs(30));
    assert_eq!(settings.doubt_window, Duration::from_secs(120));
    assert_eq!(settings.doubt_age, Duration::from_secs(7 * 24 * 3600));
    assert_eq!(settings.backoff_base, Duration::from_secs(5));
    assert_eq!(settings.backoff_cap, Duration::from_secs(3600));
    assert_eq!(settings.poll, Duration::from_secs(1));
    assert_eq!(settings.drain, Duration::from_secs(25));
    assert_eq!(settings.statement_timeout, Duration::from_secs(10));
    assert_eq!(settings.pool_connections, 6);
    assert_eq!(settings.history_months, 13);
    assert!(!settings.pooler);
    assert_eq!(settings.listen, Some("127.0.0.1:9464".parse().unwrap()));
    let hosts: Vec<&str> = settings.api_base.iter().map(|url| url.as_str()).collect();
    assert_eq!(
        hosts,
        ["https://api.weixin.qq.com/", "https://api2.weixin.qq.com/"]
    );
    assert!(!settings.worker.is_empty());
    assert!(settings.apps.is_empty());
}

#[test]
fn a_flag_wins_over_the_environment_which_wins_over_the_file() {
    let (mut sources, _file) = with_file("concurrency = 1\npoll_secs = 0.5\ndrain_secs = 7\n");
    sources = sources
        .with("WXNOTIFY_CONCURRENCY", "2")
        .with("WXNOTIFY_POLL_SECS", "2");
    sources
        .flags
        .insert("WXNOTIFY_CONCURRENCY".to_owned(), "3".to_owned());

    let settings = Settings::load(&sources).unwrap();

    assert_eq!(settings.concurrency, 3);
    assert_eq!(settings.poll, Duration::from_secs(2));
    assert_eq!(settings.drain, Duration::from_secs(7));
}

#[test]
fn every_setting_has_a_default_that_its_own_rule_accepts_from_the_file() {
    let mut toml = String::new();
    for setting in SETTINGS {
        if let Some(default) = setting.default {
            toml.push_str(&format!("{} = {default:?}\n", setting.key()));
        }
    }
    let (sources, _file) = with_file(&toml);
    Settings::load(&sources).unwrap();
}

#[test]
fn all_that_is_wrong_is_named_at_once() {
    let (sources, _file) = with_file("concurency = 1\npooler = \"maybe\"\n");
    let mut sources = sources
        .with("DATABASE_URL", "mysql://root@localhost/x")
        .with("WXNOTIFY_POLL_SECS", "soon")
        .with("WXNOTIFY_LISSEN", "127.0.0.1:1")
        .with("WXNOTIFY_APPSECRET_FILE_wx1", "/nowhere/secret")
        .with("WXNOTIFY_CALLBACK_AESKEY_wx2", "short");
    sources
        .flags
        .insert("WXNOTIFY_LEASE_SECS".to_owned(), "12".to_owned());

    let bad = bad(&sources);

    let mut names: Vec<&str> = bad.iter().map(|bad| bad.name.as_str()).collect();
    names.sort_unstable();
    let expected = [
        "DATABASE_URL",
        "WXNOTIFY_APPSECRET_FILE_wx1",
        "WXNOTIFY_CALLBACK_AESKEY_wx2",
        "WXNOTIFY_LEASE_SECS",
        "WXNOTIFY_LISSEN",
        "WXNOTIFY_POLL_SECS",
        "WXNOTIFY_POOLER",
        "concurency",
    ];
    assert_eq!(names, expected);
    assert!(
        bad.iter()
            .all(|bad| !bad.rule.is_empty() && !bad.next.is_empty()),
        "{bad:?}"
    );
}

#[test]
fn a_missing_database_url_says_what_to_set() {
    let bad = bad(&Sources::default());
    assert_eq!(bad[0].name, "DATABASE_URL");
    assert!(bad[0].next.contains("postgres://"), "{}", bad[0].next);
}

#[test]
fn an_unknown_name_comes_with_the_nearest_known_one() {
    let bad = only_bad("WXNOTIFY_CONCURENCY", "5");
    assert!(
        bad.next.contains("did you mean WXNOTIFY_CONCURRENCY?"),
        "{}",
        bad.next
    );
    let bad = only_bad("WXNOTIFY_APPSECRETT_wx1", "s3cr3t-value");
    assert!(
        bad.next.contains("WXNOTIFY_APPSECRET_<appid>"),
        "{}",
        bad.next
    );
    assert_eq!(
        bad.value, None,
        "an unknown variable may hold a misspelt secret"
    );
    let bad = only_bad("WXNOTIFY_ZZZ", "5");
    assert!(!bad.next.contains("did you mean"), "{}", bad.next);
}

/// What Kubernetes puts into every pod for each service of the namespace, and Docker's links into a container.
#[test]
fn addresses_of_services_whose_name_begins_with_ours_are_no_settings() {
    let links = [
        ("WXNOTIFY_SERVICE_HOST", "10.96.0.17"),
        ("WXNOTIFY_SERVICE_PORT", "9464"),
        ("WXNOTIFY_SERVICE_PORT_METRICS", "9464"),
        ("WXNOTIFY_PORT", "tcp://10.96.0.17:9464"),
        ("WXNOTIFY_PORT_9464_TCP", "tcp://10.96.0.17:9464"),
        ("WXNOTIFY_PORT_9464_TCP_PROTO", "tcp"),
        ("WXNOTIFY_PORT_9464_TCP_PORT", "9464"),
        ("WXNOTIFY_PORT_9464_TCP_ADDR", "10.96.0.17"),
        ("WXNOTIFY_PORT_53_UDP_ADDR", "fd00::17"),
        ("WXNOTIFY_CONSOLE_SERVICE_HOST", "10.96.0.18"),
        ("WXNOTIFY_CONSOLE_PORT_80_TCP", "tcp://10.96.0.18:80"),
        ("WXNOTIFY_APPSECRET_SERVICE_HOST", "10.96.0.19"),
        ("WXNOTIFY_APPSECRET_PORT", "tcp://10.96.0.19:80"),
    ];
    let sources = links.iter().fold(sources(), |sources, (name, value)| {
        sources.with(name, value)
    });
    let settings = Settings::load(&sources).unwrap();
    assert!(settings.apps.is_empty());

    for (name, value) in [
        // A person's.
        ("WXNOTIFY_PORT", "9464"),
        ("WXNOTIFY_SERVICE_HOST", "wxnotify"),
        ("WXNOTIFY_SERVICE_PORTS", "9464"),
        ("WXNOTIFY_PORT_9464_TCP_PROTO", "http"),
        ("WXNOTIFY_LISTEN_PORT", "9464"),
        ("WXNOTIFY_POOL_CONNECTION", "6"),
    ] {
        only_bad_name(name, value);
    }
}

fn only_bad_name(name: &str, value: &str) {
    let bad = only_bad(name, value);
    assert!(bad.rule.contains("is not a setting"), "{name}: {bad:?}");
}

#[test]
fn numbers_and_spans_are_bounded_and_carry_no_unit() {
    for value in [
        "0",
        "4097",
        "-1",
        "6.5",
        "many",
        "",
        "64 ",
        "9999999999999999999999",
    ] {
        if value == "64 " {
            // White space around a value is a slip that means nothing.
            Settings::load(&sources().with("WXNOTIFY_CONCURRENCY", value)).unwrap();
            continue;
        }
        let bad = only_bad("WXNOTIFY_CONCURRENCY", value);
        assert!(bad.rule.contains("from 1 to 4096"), "{}", bad.rule);
        assert_eq!(bad.value.as_deref(), Some(value));
    }
    for value in ["0", "61", "1s", "NaN", "inf", "-1"] {
        assert!(
            only_bad("WXNOTIFY_POLL_SECS", value)
                .rule
                .contains("seconds from 0.01 to 60")
        );
    }
}

#[test]
fn a_lease_must_outlast_a_request_by_more_than_five_seconds() {
    let bad = only_bad("WXNOTIFY_LEASE_SECS", "15");
    assert!(
        bad.rule.contains("WXNOTIFY_REQUEST_TIMEOUT_SECS + 5 = 15"),
        "{}",
        bad.rule
    );
    Settings::load(&sources().with("WXNOTIFY_LEASE_SECS", "15.1")).unwrap();
}

#[test]
fn the_backoff_base_must_not_exceed_its_cap_and_connecting_not_the_request() {
    let both = |base: &str, cap: &str| {
        let base = sources().with("WXNOTIFY_BACKOFF_BASE_SECS", base);
        Settings::load(&base.with("WXNOTIFY_BACKOFF_CAP_SECS", cap))
    };
    both("60", "60").unwrap();
    assert_eq!(
        both("61", "60").unwrap_err().bad_settings[0].name,
        "WXNOTIFY_BACKOFF_BASE_SECS"
    );
    only_bad("WXNOTIFY_CONNECT_TIMEOUT_SECS", "11");
}

#[test]
fn a_proxy_is_a_url_whose_password_is_never_shown() {
    for value in [
        "",
        "none",
        "http://proxy:3128",
        "https://user:hunter2@proxy.example",
    ] {
        Settings::load(&sources().with("WXNOTIFY_HTTPS_PROXY", value)).unwrap();
    }
    for value in [
        "proxy:3128",
        "socks5://user:hunter2@proxy",
        "http://user:hunter2@proxy/path",
        "http://user:hunter2@proxy:99999",
        "http://",
    ] {
        let error = Settings::load(&sources().with("WXNOTIFY_HTTPS_PROXY", value)).unwrap_err();
        let words = error.to_string();
        assert!(
            words.contains("WXNOTIFY_HTTPS_PROXY") && !words.contains("hunter2"),
            "{words}"
        );
    }
}

#[test]
fn plain_http_is_for_loopback_only() {
    for value in [
        "http://127.0.0.1:8080",
        "http://127.9.9.9",
        "http://[::1]:1",
        "http://localhost:8080",
    ] {
        Settings::load(&sources().with("WXNOTIFY_API_BASE", value)).unwrap();
    }
    for value in [
        "http://api.weixin.qq.com",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "https://api.weixin.qq.com,http://10.0.0.1",
        "ftp://127.0.0.1",
        "api.weixin.qq.com",
        "https://api.weixin.qq.com/cgi-bin",
        "https://api.weixin.qq.com/wechat?a=b",
        "https://user:pass@api.weixin.qq.com",
        "https://api.weixin.qq.com,",
        "",
    ] {
        only_bad("WXNOTIFY_API_BASE", value);
    }
}

#[test]
fn an_empty_listen_address_turns_the_listener_off_and_a_name_is_refused() {
    let listen = |value: &str| {
        Settings::load(&sources().with("WXNOTIFY_LISTEN", value))
            .unwrap()
            .listen
    };
    assert_eq!(listen(""), None);
    assert_eq!(listen("[::1]:0"), Some("[::1]:0".parse().unwrap()));
    assert_eq!(
        listen("localhost:80"),
        Some("127.0.0.1:80".parse().unwrap())
    );
    for value in [
        "9464",
        ":9464",
        "example.com:9464",
        "127.0.0.1",
        "127.0.0.1:99999",
    ] {
        only_bad("WXNOTIFY_LISTEN", value);
    }
}

#[test]
fn the_database_url_is_checked_without_being_shown() {
    for url in [
        "postgres://notifier:hunter2@host:port/x",
        "mysql://notifier:hunter2@host/x",
        "hunter2",
        "password=hunter2 host",
        "host=localhost password='hunter2",
        "postgres://notifier:hunter2@host/x?sslmod=require",
        "postgres://notifier:hunter2@host/x?sslmode=maybe",
        "",
    ] {
        let error = Settings::load(&sources().with("DATABASE_URL", url)).unwrap_err();
        assert_eq!(error.bad_settings.len(), 1, "{url}");
        assert_eq!(error.bad_settings[0].value, None);
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

#[test]
fn a_pooler_is_where_the_settings_say_so() {
    let through = Settings::load(&sources().with("WXNOTIFY_POOLER", "true")).unwrap();
    assert_eq!(through.route(), Route::TransactionPooler);
    let direct = Settings::load(&sources()).unwrap();
    assert_eq!(direct.route(), Route::Direct);
    only_bad("WXNOTIFY_POOLER", "yes");
}

#[test]
fn secrets_come_from_variables_files_and_the_toml_file() {
    let mut secret_file = tempfile::NamedTempFile::new().unwrap();
    secret_file.write_all(b"secret-of-a-file\n").unwrap();
    let path = secret_file.path().to_str().unwrap();
    let (sources, _file) = with_file(&format!(
        "[apps.wxa]\nsecret_file = {path:?}\ncallback_token = \"token1\"\n\n[apps.wxb]\nsecret = \"of-the-toml-file\"\n"
    ));
    let key = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ";
    let sources = sources
        .with("WXNOTIFY_APPSECRET_wxb", "of-the-environment")
        .with("WXNOTIFY_APPSECRET_FILE_wxc", path)
        .with("WXNOTIFY_CALLBACK_AESKEY_wxa", key);

    let settings = Settings::load(&sources).unwrap();

    let secret = |appid: &str| {
        settings.apps[appid]
            .secret
            .as_ref()
            .unwrap()
            .expose_secret()
            .to_owned()
    };
    assert_eq!(secret("wxa"), "secret-of-a-file");
    assert_eq!(secret("wxb"), "of-the-environment");
    assert_eq!(secret("wxc"), "secret-of-a-file");
    let app = &settings.apps["wxa"];
    assert_eq!(
        app.callback_token.as_ref().unwrap().expose_secret(),
        "token1"
    );
    assert_eq!(app.callback_aeskey.as_ref().unwrap().expose_secret(), key);
}

#[test]
fn malformed_secrets_are_refused_without_being_shown() {
    let cases = [
        ("WXNOTIFY_APPSECRET_wx1", "two words-hunter2"),
        ("WXNOTIFY_APPSECRET_wx1", ""),
        ("WXNOTIFY_CALLBACK_TOKEN_wx1", "hunter2!"),
        ("WXNOTIFY_CALLBACK_TOKEN_wx1", "ab"),
        ("WXNOTIFY_CALLBACK_AESKEY_wx1", "hunter2"),
    ];
    for (name, value) in cases {
        let error = Settings::load(&sources().with(name, value)).unwrap_err();
        assert_eq!(error.bad_settings[0].name, name);
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    only_bad("WXNOTIFY_APPSECRET_", "x");
    only_bad("WXNOTIFY_APPSECRET_wx/1", "x");
}

#[test]
fn a_key_without_its_token_and_a_secret_given_twice_are_refused() {
    let key = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ";
    let error = Settings::load(&sources().with("WXNOTIFY_CALLBACK_AESKEY_wx1", key)).unwrap_err();
    assert_eq!(error.bad_settings[0].name, "WXNOTIFY_CALLBACK_TOKEN_wx1");

    let twice = sources()
        .with("WXNOTIFY_APPSECRET_wx1", "a")
        .with("WXNOTIFY_APPSECRET_FILE_wx1", "/b");
    let bad = bad(&twice);
    assert!(bad[0].rule.contains("beside WXNOTIFY_APPSECRET"), "{bad:?}");
}

#[test]
fn a_file_that_is_missing_or_not_toml_or_has_strange_keys_is_refused_without_quoting_it() {
    let missing = Sources {
        file: Some("/nowhere/wxnotify.toml".into()),
        ..sources()
    };
    assert!(bad(&missing)[0].name.contains("/nowhere/wxnotify.toml"));

    let (broken, _file) = with_file("concurrency = 1\n[apps.wx1]\nsecret = hunter2\n");
    let bad_file = bad(&broken);
    assert!(bad_file[0].rule.contains("line 3"), "{bad_file:?}");

    let (strange, _file) = with_file(
        "concurrency = [1]\n[apps.wx1]\nsecrets = \"hunter2\"\ncallback_token = 5\n[poll_secs]\nx = \"hunter2\"\n",
    );
    let bad_keys = bad(&strange);
    let mut names: Vec<&str> = bad_keys.iter().map(|bad| bad.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "apps.wx1.callback_token",
            "apps.wx1.secrets",
            "concurrency",
            "poll_secs"
        ]
    );
    assert!(
        bad_keys
            .iter()
            .any(|bad| bad.next.contains("did you mean secret?")),
        "{bad_keys:?}"
    );
    for bad in bad_file.iter().chain(&bad_keys) {
        assert!(!format!("{bad:?}").contains("hunter2"), "{bad:?}");
    }
}

#[test]
fn debug_output_shows_no_secret() {
    let settings = Settings::load(
        &sources()
            .with("WXNOTIFY_APPSECRET_wx1", "app-secret-value")
            .with("WXNOTIFY_CALLBACK_TOKEN_wx1", "callbacktokenvalue"),
    )
    .unwrap();
    let shown = format!("{settings:?} {settings:#?}");
    for secret in ["db-password", "app-secret-value", "callbacktokenvalue"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(shown.contains("wx1"), "{shown}");
}

#[test]
fn the_environment_sample_names_every_setting_with_its_default() {
    let sample = include_str!("../../deploy/wxnotify.env.sample");
    let variables: Vec<(&str, &str)> = sample
        .lines()
        .filter_map(|line| line.trim_start_matches('#').split_once('='))
        .collect();
    for setting in SETTINGS {
        // These are the person's own, or long and hardly ever changed.
        if setting.name == "WXNOTIFY_API_BASE" {
            continue;
        }
        let (_, value) = variables
            .iter()
            .find(|(name, _)| *name == setting.name)
            .unwrap_or_else(|| panic!("{} is not in the sample", setting.name));
        if let Some(default) = setting.default {
            assert_eq!(*value, default, "{}", setting.name);
        }
    }
    let given = sample
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='));
    let sources = given.fold(Sources::default(), |sources, (name, value)| {
        sources.with(name, value)
    });
    Settings::load(&sources).unwrap();
}

#[cfg(unix)]
#[test]
fn a_secret_that_others_may_read_is_warned_about_and_one_that_they_may_not_is_not() {
    use std::os::unix::fs::PermissionsExt;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "0123456789abcdef0123456789abcdef").unwrap();
    for (mode, warned) in [
        (0o644, true),
        (0o640, true),
        (0o604, true),
        (0o660, true),
        (0o600, false),
        (0o400, false),
    ] {
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let path = file.path().display().to_string();
        let settings =
            Settings::load(&sources().with("WXNOTIFY_APPSECRET_FILE_wx1", &path)).unwrap();
        let advice = settings.advice.join("\n");
        assert_eq!(!advice.is_empty(), warned, "{mode:o}: {advice}");
        if warned {
            for told in ["WXNOTIFY_APPSECRET_FILE_wx1", &path, "chmod 600"] {
                assert!(advice.contains(told), "{advice}");
            }
            assert!(!advice.contains("0123456789abcdef"), "{advice}");
        }
    }
}
