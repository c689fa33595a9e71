//! `vivarium check`: what this machine can enforce, what each tenant gets, what is missing.
//!
//! It reads the same files with the same code as the supervisor and tries the same system calls, so it must run as the
//! supervisor does (usually as root) to see the same. It changes nothing but an empty parent control group.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::config::{Settings, Source};
use crate::sandbox::machine::Machine;
use crate::sandbox::protection::Protection;
use crate::sandbox::rules;
use crate::sandbox::{filter, plan, root};
use crate::tenants::{Registry, Tenant, some_of};

/// What to look at.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The configuration file; else as `vivariumd` chooses it.
    pub config: Option<PathBuf>,
    /// The tenants' directory; else as `vivariumd` chooses it.
    pub tenants_dir: Option<PathBuf>,
    /// Only these tenants; empty: all. `~USER` names one of a template.
    pub tenants: Vec<String>,
}

/// How it stands. The numbers are `vivarium check`'s exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Everything that is asked for is there.
    Good = 0,
    /// Tenants are served, some without a protection that their files ask for.
    Weaker = 1,
    /// A file is wrong, or a tenant cannot be served.
    Bad = 2,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Report {
    /// For people.
    pub text: String,
    /// For scripts.
    pub verdict: Verdict,
}

impl Report {
    fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    fn worse(&mut self, verdict: Verdict) {
        self.verdict = self.verdict.max(verdict);
    }
}

/// Looks at machine, configuration and tenants.
pub fn check(options: &Options) -> Report {
    let mut report = Report { text: String::new(), verdict: Verdict::Good };
    let environment = std::env::var_os("VIVARIUM_CONFIG").filter(|v| !v.is_empty());
    let source = Source::choose(options.config.clone(), environment.map(PathBuf::from));
    let (settings, wrong) = match source.load() {
        Ok(settings) => (settings, None),
        Err(e) => (Settings::default(), Some(e.to_string())),
    };
    let machine = Machine::probe(settings.sandbox.cgroup.get());
    describe(&mut report, &machine);

    report.line("");
    match wrong {
        Some(error) => {
            report.line(&format!("Configuration: WRONG: {error}"));
            report.worse(Verdict::Bad);
        }
        None if source.path().exists() => {
            report.line(&format!("Configuration: {}: right", source.path().display()));
        }
        None => report.line("Configuration: no file, so the defaults hold"),
    }
    profiles(&mut report, &settings);
    tenants(&mut report, options, &settings, &source, &machine);
    report
}

fn describe(report: &mut Report, machine: &Machine) {
    let kernel = rustix::system::uname();
    let uid = rustix::process::geteuid().as_raw();
    report.line(&format!(
        "This machine, for a supervisor of uid {uid}: Linux {}, {}",
        kernel.release().to_string_lossy(),
        kernel.machine().to_string_lossy()
    ));
    for (protection, key, text) in Protection::ALL {
        let (answer, why) = match machine.why_not(*protection) {
            None => ("yes", (*text).to_owned()),
            Some(why) => ("no", why.to_owned()),
        };
        report.line(&format!("  {key:<18} {answer:<4} {why}"));
    }
    report.line(&format!(
        "  control groups: {}; Landlock: {}",
        machine.cgroups.version(),
        match machine.landlock_abi {
            0 => "none".to_owned(),
            n => format!("version {n}"),
        }
    ));
}

fn profiles(report: &mut Report, settings: &Settings) {
    use crate::tenants::file::Profile;
    let dir = std::path::Path::new(settings.sandbox.profiles.get());
    for profile in [Profile::Strict, Profile::Standard] {
        let Some(name) = filter::file_name(profile) else { continue };
        let own = dir.join(name).exists();
        match filter::load(profile, dir) {
            Err(e) => {
                report.line(&format!("seccomp profile: WRONG: {e}"));
                report.worse(Verdict::Bad);
            }
            Ok(_) if own => {
                report.line(&format!("seccomp profile: {}: right", dir.join(name).display()));
            }
            Ok(_) => {}
        }
    }
    if let Err(e) = rules::load(dir) {
        report.line(&format!("file rules: WRONG: {e}"));
        report.worse(Verdict::Bad);
    } else if dir.join(rules::FILE).exists() {
        report.line(&format!("file rules: {}: right", dir.join(rules::FILE).display()));
    }
}

fn tenants(
    report: &mut Report,
    options: &Options,
    settings: &Settings,
    source: &Source,
    machine: &Machine,
) {
    let dir =
        crate::reload::tenants_dir(options.tenants_dir.clone(), Some(settings), source.path());
    let mut registry = Registry::default();
    let changes = registry.reload(&dir, *settings.sandbox.min_uid.get());
    let names: Vec<(String, Option<String>)> =
        registry.names().map(|(n, e)| (n.to_owned(), e.map(str::to_owned))).collect();
    report.line("");
    report.line(&format!("Tenants in {}: {} files", dir.display(), names.len()));
    let of_files: Vec<&String> = names.iter().filter_map(|(_, e)| e.as_ref()).collect();
    for error in &changes.errors {
        // Those of single files are shown with their tenants.
        if !of_files.iter().any(|e| error.starts_with(e.as_str())) {
            report.line(&format!("  WRONG: {error}"));
            report.worse(Verdict::Bad);
        }
    }
    let wanted: Vec<String> = if options.tenants.is_empty() {
        names.iter().map(|(name, _)| name.clone()).collect()
    } else {
        options.tenants.clone()
    };
    for name in wanted {
        if registry.is_template(&name) {
            report.line(&format!("  {name}: a template; its tenants are {name}~USER"));
            continue;
        }
        match registry.find(&name) {
            Ok(tenant) => one(report, &tenant, machine),
            Err(e) => {
                report.line(&format!("  {name}: WRONG: {e}"));
                report.worse(Verdict::Bad);
            }
        }
    }
    for (uid, names) in registry.shared_users() {
        report.line(&format!(
            "  {} tenants run as uid {uid}, and can reach each other's files: give each a user of its own ({})",
            names.len(),
            some_of(&names)
        ));
        report.worse(Verdict::Weaker);
    }
}

fn one(report: &mut Report, tenant: &Tenant, machine: &Machine) {
    let Some(declared) = &tenant.declared else { return };
    let (file, user) = (&declared.file, &declared.user);
    report.line(&format!(
        "  {}: user {} (uid {}), {}, grants: {}",
        tenant.name,
        user.name,
        user.uid,
        file.python.get(),
        file.grants.0
    ));
    match plan::missing(file, machine) {
        Err(e) => {
            report.line(&format!("    NOT SERVED: {e}"));
            report.worse(Verdict::Bad);
        }
        Ok(missing) => {
            let mut gets = String::new();
            for protection in plan::wanted(file) {
                if machine.has(protection) {
                    let comma = if gets.is_empty() { "" } else { ", " };
                    let _ = write!(gets, "{comma}{protection}");
                }
            }
            report.line(&format!("    gets {gets}"));
            for missing in missing {
                report.line(&format!("    LACKS {}: {}", missing.protection, missing.why));
                report.worse(Verdict::Weaker);
            }
        }
    }
    let named = (file.files.read_only.iter().chain(&file.files.read_write))
        .map(|p| p.get().as_str())
        .chain(file.document_roots.0.iter().map(String::as_str))
        .chain(declared.home.as_deref())
        .chain([file.python.get().as_str()]);
    for path in named {
        match root::reachable(path) {
            Ok(true) => {}
            Ok(false) => {
                report.line(&format!("    MISSING {path}: it does not exist"));
                report.worse(Verdict::Weaker);
            }
            Err(e) => {
                report.line(&format!("    WRONG {e}"));
                report.worse(Verdict::Bad);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn every_tenant_is_told_what_it_gets() {
        let dir = std::env::temp_dir().join(format!("viv-check-{}", std::process::id()));
        let tenants = dir.join("tenants.d");
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&tenants).unwrap();
        for d in [&dir, &tenants] {
            std::fs::set_permissions(d, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let write = |name: &str, text: &str| {
            let path = tenants.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        };
        std::fs::write(dir.join("v.toml"), "").unwrap();
        std::fs::set_permissions(dir.join("v.toml"), std::fs::Permissions::from_mode(0o644))
            .unwrap();
        write("good.toml", "user = 'nobody'\n");
        let mut options = Options { config: Some(dir.join("v.toml")), ..Options::default() };
        let report = check(&options);
        assert!(report.text.contains("good: user nobody (uid 65534)"), "{}", report.text);
        assert!(report.text.contains("no_new_privs") && report.text.contains("grants: none"));
        let root = rustix::process::geteuid().is_root();
        assert_eq!(report.verdict == Verdict::Bad, !root, "{}", report.text);

        write("bad.toml", "user = 'nobody'\ncolour = 1\n");
        write(
            "label.toml",
            "user = 'nobody'\nrequire = ['user', 'no_new_privs']\ndocument_roots = ['/no/such']\n",
        );
        let report = check(&options);
        assert_eq!(report.verdict, Verdict::Bad);
        assert!(report.text.contains("bad.toml:2: "), "{}", report.text);
        assert!(report.text.contains("MISSING /no/such"), "{}", report.text);
        assert!(report.text.contains("tenants run as uid 65534"), "{}", report.text);
        options.tenants = vec!["nobody-of-that-name".into()];
        assert!(check(&options).text.contains("there is no tenant"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
