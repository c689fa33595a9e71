//! The optional configuration file: TOML, every key optional, unknown keys refused.
//!
//! An error names file and line and says what would be right. A file that has become wrong while the supervisor runs
//! changes nothing: the last good one stays in force.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use vivarium_protocol::region::MAX_WORKERS;

use crate::log::Level;

/// Where the file is if nobody says otherwise. There it may be missing.
pub(crate) const DEFAULT_PATH: &str = "/etc/vivarium/vivariumd.toml";

/// Everything that the file says, with defaults for what it does not.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// The built-in tenant.
    #[serde(rename = "default")]
    pub(crate) tenant: Tenant,
    pub(crate) log: LogSection,
    pub(crate) httpd: Httpd,
    pub(crate) limits: Limits,
    pub(crate) paths: Paths,
    /// Where the tenants' files are; else `tenants.d` beside this file.
    pub(crate) tenants_dir: Option<AbsolutePath>,
    pub(crate) sandbox: Sandbox,
}

/// `[sandbox]`: what all declared tenants share.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Sandbox {
    /// The lowest uid that a tenant may have.
    pub(crate) min_uid: Uid,
    /// Where the administrator's own `seccomp-*.json` and `files-*.rules` are.
    pub(crate) profiles: AbsolutePath,
    /// Below which control group the tenants' are made; empty: no control groups.
    pub(crate) cgroup: Cgroup,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            min_uid: Uid(1000),
            profiles: AbsolutePath("/etc/vivarium/sandbox".into()),
            cgroup: Cgroup("/vivarium".into()),
        }
    }
}

/// `[default]`: how workers of the built-in tenant are started.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tenant {
    pub(crate) user: Option<Name>,
    pub(crate) group: Option<Name>,
    pub(crate) python: AbsolutePath,
    pub(crate) processes: Processes,
    pub(crate) idle_s: Idle,
    pub(crate) threads: Threads,
    pub(crate) env: Environment,
    pub(crate) umask: Umask,
    pub(crate) home: Option<AbsolutePath>,
}

impl Default for Tenant {
    fn default() -> Self {
        Self {
            user: None,
            group: None,
            python: AbsolutePath("/usr/bin/python3".into()),
            processes: Processes::default(),
            idle_s: Idle(IDLE_S),
            threads: Threads(16),
            env: Environment(BTreeMap::new()),
            umask: Umask(0o022),
            home: None,
        }
    }
}

/// `[log]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogSection {
    pub(crate) level: Level,
}

impl Default for LogSection {
    fn default() -> Self {
        Self { level: Level::Info }
    }
}

/// `[httpd]`: the peer; a managed supervisor is told by httpd itself.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Httpd {
    pub(crate) user: Option<Name>,
}

/// `[limits]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    pub(crate) pools: Pools,
}

impl Default for Limits {
    fn default() -> Self {
        Self { pools: Pools(256) }
    }
}

/// `[paths]`: where the Python side is, for a service (a managed supervisor is told by httpd), and the run directory.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Paths {
    pub(crate) package_dir: Option<AbsolutePath>,
    pub(crate) extension: Option<AbsolutePath>,
    /// Where sockets for `vivarium`'s commands and mount points are made; managed supervisors too.
    pub(crate) run_dir: Option<AbsolutePath>,
}

/// A newtype that checks itself while it is read, so that the error has the line of the value.
macro_rules! checked {
    ($(#[$doc:meta])* $name:ident: $serde:literal $raw:ty => $inner:ty, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
        #[serde(try_from = $serde)]
        pub(crate) struct $name(pub(crate) $inner);

        impl $name {
            /// The checked value.
            #[allow(dead_code)] // Not each of them is read from elsewhere.
            pub(crate) fn get(&self) -> &$inner {
                &self.0
            }
        }

        impl TryFrom<$raw> for $name {
            type Error = String;
            fn try_from(raw: $raw) -> Result<Self, String> {
                let check: fn($raw) -> Result<$inner, String> = $check;
                check(raw).map(Self)
            }
        }
    };
}
pub(crate) use checked;

checked!(
    /// The lowest uid of tenants.
    Uid: "i64" i64 => u32, |raw| number(raw, 1, 4_294_967_294, "min_uid")
);
checked!(
    /// A control group's path below the hierarchies' roots.
    Cgroup: "String" String => String, |raw| {
        let plain = raw.starts_with('/') && !raw.ends_with('/') && raw.split('/').all(|p| p != "." && p != "..");
        if raw.is_empty() || (plain && !raw.contains(['\0', ' ', '\n'])) {
            return Ok(raw);
        }
        Err(format!("{raw:?} is no control group: write \"/vivarium\", or \"\" for none"))
    }
);
checked!(
    /// A user's or group's name.
    Name: "String" String => String, |raw| {
        if raw.is_empty() || raw.bytes().any(|b| b == 0 || b == b':' || b.is_ascii_control()) {
            return Err("the name of a user or a group is wanted".into());
        }
        Ok(raw)
    }
);
checked!(
    /// An absolute path.
    AbsolutePath: "String" String => String, |raw| {
        // Tenants' files may say `{home}/...`.
        if !(raw.starts_with('/') || raw.starts_with("{home}")) || raw.contains('\0') {
            return Err(format!("{raw:?} is not an absolute path: it must begin with /"));
        }
        Ok(raw)
    }
);
checked!(
    /// How long a worker that is not needed has nothing to do before it ends, in seconds; 0: it stays.
    Idle: "i64" i64 => u32, |raw| number(raw, 0, 1_000_000_000, "idle_s")
);
checked!(
    /// How many request threads a worker has.
    Threads: "i64" i64 => u32, |raw| number(raw, 1, 512, "threads")
);
checked!(
    /// How many pools there may be.
    Pools: "i64" i64 => usize, |raw| number(raw, 1, 65_536, "pools")
);
checked!(
    /// File creation mask.
    Umask: "String" String => u32, |raw| match u32::from_str_radix(&raw, 8) {
        Ok(mask) if mask <= 0o777 => Ok(mask),
        _ => Err(format!("{raw:?} is no file creation mask: write it in octal, as \"0027\"")),
    }
);
checked!(
    /// More environment variables.
    Environment: "BTreeMap<String, String>" BTreeMap<String, String> => BTreeMap<String, String>, |raw| {
        for (name, value) in &raw {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(format!("{name:?} cannot be set: names have no = and nothing has a NUL"));
            }
            if name.starts_with("VIVARIUM_") {
                return Err(format!("{name} is the supervisor's own: it cannot be set"));
            }
        }
        Ok(raw)
    }
);

/// How long workers that are not needed have nothing to do before they end, if nothing is said: seconds.
pub(crate) const IDLE_S: u32 = 300;

/// How many processes a pool has: a number, or `{ min, max }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawProcesses")]
pub(crate) struct Processes {
    pub(crate) min: u8,
    pub(crate) max: u8,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "`processes` is a whole number, or { min = 1, max = 4 }")]
enum RawProcesses {
    Always(i64),
    Between(Between),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Between {
    min: i64,
    max: i64,
}

impl TryFrom<RawProcesses> for Processes {
    type Error = String;
    fn try_from(raw: RawProcesses) -> Result<Self, String> {
        let most = i64::from(MAX_WORKERS);
        match raw {
            RawProcesses::Always(n) => {
                number(n, 1, most, "processes").map(|n| Self { min: n, max: n })
            }
            RawProcesses::Between(Between { min, max }) => {
                let max: u8 = number(max, 1, most, "max")?;
                Ok(Self { min: number(min, 0, max.into(), "min")?, max })
            }
        }
    }
}

pub(crate) fn number<T: TryFrom<i64>>(
    raw: i64,
    least: i64,
    most: i64,
    what: &str,
) -> Result<T, String> {
    let checked = if (least..=most).contains(&raw) { T::try_from(raw).ok() } else { None };
    checked.ok_or_else(|| format!("{what} = {raw} is out of range: {least} to {most} is allowed"))
}

impl Default for Processes {
    fn default() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let number = cpus.clamp(1, 4) as u8;
        Self { min: number, max: number }
    }
}

/// Why the file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    /// It cannot be read.
    #[error("{path}: {error}: make it readable for the supervisor, or do without it", path = path.display())]
    Read { path: PathBuf, error: String },
    /// It says something that is not understood.
    #[error("{path}:{line}: {message}", path = path.display())]
    Syntax { path: PathBuf, line: usize, message: String },
}

/// Where the configuration file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    path: PathBuf,
    /// Somebody named it, so it must be there.
    named: bool,
}

impl Source {
    /// `--config`, else the environment's `VIVARIUM_CONFIG`, else the default place.
    pub(crate) fn choose(argument: Option<PathBuf>, environment: Option<PathBuf>) -> Self {
        match argument.or(environment) {
            Some(path) => Self { path, named: true },
            None => Self { path: DEFAULT_PATH.into(), named: false },
        }
    }

    /// The file's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file; the defaults if it may be missing and is.
    pub(crate) fn load(&self) -> Result<Settings, ConfigError> {
        match crate::tenants::trusted::read(&self.path) {
            Ok(text) => parse(&self.path, &text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !self.named => {
                Ok(Settings::default())
            }
            Err(e) => Err(ConfigError::Read { path: self.path.clone(), error: e.to_string() }),
        }
    }
}

/// Reads TOML; an error has file and line.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(
    path: &Path,
    text: &str,
) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|e| {
        let before = e.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let message = e.message().trim().replace("expected i64", "expected a whole number");
        let message = crate::log::escape(message.as_bytes(), 500);
        ConfigError::Syntax { path: path.to_owned(), line, message }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        parse(Path::new("/t.toml"), text).map_err(|e| e.to_string())
    }

    fn error(text: &str) -> String {
        read(text).unwrap_err()
    }

    #[test]
    fn nothing_said_means_the_defaults() {
        let s = read("").unwrap();
        assert_eq!(s.tenant.python.get(), "/usr/bin/python3");
        assert_eq!(*s.tenant.threads.get(), 16);
        assert_eq!(*s.tenant.umask.get(), 0o022);
        assert!((1..=4).contains(&s.tenant.processes.max));
        assert_eq!(s.tenant.processes.min, s.tenant.processes.max, "always as many");
        assert!(s.tenant.user.is_none() && s.tenant.env.get().is_empty());
        assert_eq!(s.log.level, Level::Info);
        assert_eq!(*s.limits.pools.get(), 256);
    }

    #[test]
    fn every_key_is_read() {
        let s = read(
            "[default]\nuser = 'alice'\ngroup = 'web'\npython = '/srv/venv/bin/python'\n\
             processes = 7\nidle_s = 9\nthreads = 3\numask = '0077'\nhome = '/srv'\nenv = { A = 'b', TZ = 'UTC' }\n\
             [log]\nlevel = 'debug'\n[httpd]\nuser = 'www-data'\n[limits]\npools = 12\n\
             [paths]\npackage_dir = '/p'\nextension = '/e.so'\n",
        )
        .unwrap();
        assert_eq!(s.tenant.user.unwrap().get(), "alice");
        assert_eq!(s.tenant.group.unwrap().get(), "web");
        assert_eq!(s.tenant.python.get(), "/srv/venv/bin/python");
        assert_eq!(s.tenant.processes, Processes { min: 7, max: 7 });
        assert_eq!((*s.tenant.idle_s.get(), *s.tenant.threads.get()), (9, 3));
        assert_eq!(*s.tenant.umask.get(), 0o077);
        assert_eq!(s.tenant.home.unwrap().get(), "/srv");
        assert_eq!(s.tenant.env.get()["TZ"], "UTC");
        assert_eq!(s.log.level, Level::Debug);
        assert_eq!(s.httpd.user.unwrap().get(), "www-data");
        assert_eq!(*s.limits.pools.get(), 12);
        assert_eq!(s.paths.package_dir.unwrap().get(), "/p");
        assert_eq!(s.paths.extension.unwrap().get(), "/e.so");
    }

    #[test]
    fn processes_may_be_between_two_numbers() {
        let s = read("[default]\nprocesses = { min = 0, max = 9 }\n").unwrap();
        assert_eq!(s.tenant.processes, Processes { min: 0, max: 9 });
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let e = error("[default]\nthreads = 4\nprocesess = 2\n");
        assert!(e.starts_with("/t.toml:3: ") && e.contains("procesess"), "{e}");
        assert!(e.contains("processes"), "says what is allowed: {e}");
        let e = error("[defaults]\n");
        assert!(e.starts_with("/t.toml:1: ") && e.contains("defaults"), "{e}");
    }

    #[test]
    fn broken_syntax_is_refused_with_its_line() {
        let e = error("[default]\n\n\npython = /usr/bin/python3\n");
        assert!(e.starts_with("/t.toml:4: "), "{e}");
        assert!(!e.contains('\n'), "one line: {e}");
    }

    #[test]
    fn values_are_checked_with_their_line() {
        for (line, must) in [
            ("processes = 0", "1 to 64"),
            ("processes = 65", "1 to 64"),
            ("processes = { min = 3, max = 2 }", "0 to 2"),
            ("processes = { min = 3, most = 2 }", "{ min = 1, max = 4 }"),
            ("processes = 'many'", "{ min = 1, max = 4 }"),
            ("idle_s = -1", "0 to"),
            ("threads = -1", "1 to 512"),
            ("python = 'python3'", "absolute"),
            ("umask = '999'", "octal"),
            ("umask = '1000'", "octal"),
            ("user = ''", "name"),
            ("home = 'relative'", "absolute"),
            ("env = { VIVARIUM_SLOT = '1' }", "VIVARIUM_SLOT"),
            ("env = { 'A=B' = '1' }", "A=B"),
            ("threads = 'many'", "whole number"),
        ] {
            let e = error(&format!("[default]\n{line}\n"));
            assert!(e.starts_with("/t.toml:2: ") && e.contains(must), "{line}: {e}");
        }
        let e = error("[log]\nlevel = 'loud'\n");
        assert!(e.starts_with("/t.toml:2: ") && e.contains("loud"), "{e}");
    }

    #[test]
    fn only_an_unnamed_file_may_be_missing() {
        let missing = PathBuf::from("/no/such/file.toml");
        let unnamed = Source { path: missing.clone(), named: false };
        assert!(unnamed.load().is_ok());
        let named = Source::choose(None, Some(missing));
        assert!(matches!(named.load(), Err(ConfigError::Read { .. })));
        assert_eq!(Source::choose(None, None).path(), Path::new(DEFAULT_PATH));
        let both = Source::choose(Some("/a".into()), Some("/b".into()));
        assert_eq!(both.path(), Path::new("/a"));
    }

    /// The sample shows every key, and each line of it can be used as it stands.
    #[test]
    fn the_sample_is_right() {
        let sample = include_str!("../../../conf/vivariumd.toml");
        let nothing_said = read(sample).unwrap();
        assert!(nothing_said.tenant.user.is_none());
        let is_key = |line: &str| {
            line.strip_prefix('#')
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
        };
        let all_said: String = sample
            .lines()
            .map(|line| if is_key(line) { &line[1..] } else { line })
            .flat_map(|line| [line, "\n"])
            .collect();
        let s = read(&all_said).unwrap();
        let t = &s.tenant;
        assert!(
            t.user.is_some() && t.group.is_some() && t.home.is_some() && !t.env.get().is_empty()
        );
        assert!(
            s.httpd.user.is_some() && s.paths.package_dir.is_some() && s.paths.extension.is_some()
        );
        let defaults = Settings::default();
        assert_eq!(t.python, defaults.tenant.python);
        assert_eq!(t.threads, defaults.tenant.threads);
        assert_eq!(t.umask, defaults.tenant.umask);
        assert_eq!(s.limits.pools, defaults.limits.pools);
        assert_eq!(s.log.level, defaults.log.level);
        for key in ["processes =", "python =", "threads =", "umask =", "level =", "pools ="] {
            assert!(all_said.lines().any(|l| l.starts_with(key)), "{key} is not shown");
        }
    }
}
