//! seccomp profiles: JSON files with a reason for each line, compiled once and installed by the helper.
//!
//! A file holds filters by name, in seccompiler's form, with one key more: `"arch"` keeps a rule to the named machines.
//! All its filters are installed, in the order of their names; each can only take something away.

use std::path::Path;

use seccompiler::{TargetArch, sock_filter};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::tenants::file::Profile;

const STRICT: &str = include_str!("../../../../conf/sandbox/seccomp-strict.json");
const STANDARD: &str = include_str!("../../../../conf/sandbox/seccomp-standard.json");

/// One instruction of a filter, as it travels to the helper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Instruction {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

/// A compiled filter.
pub(crate) type Program = Vec<Instruction>;

/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JGE | BPF_K`, `BPF_RET | BPF_K`.
const LOAD: u16 = 0x20;
const JUMP_GE: u16 = 0x35;
const RETURN: u16 = 0x06;

/// On x86-64 the same calls exist a second time with this bit (the x32 ABI): a list of refused numbers would miss them.
fn no_second_table() -> Program {
    let step = |code, jt, jf, k| Instruction { code, jt, jf, k };
    vec![
        step(LOAD, 0, 0, 0),
        step(JUMP_GE, 0, 1, 0x4000_0000),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// The file's name of a profile.
pub(crate) fn file_name(profile: Profile) -> Option<&'static str> {
    match profile {
        Profile::Strict => Some("seccomp-strict.json"),
        Profile::Standard => Some("seccomp-standard.json"),
        Profile::Off => None,
    }
}

/// The profile's filters: the administrator's copy in `profiles` if there is one, else the built-in ones.
pub(crate) fn load(profile: Profile, profiles: &Path) -> Result<Vec<Program>, String> {
    let built_in = match profile {
        Profile::Strict => STRICT,
        Profile::Standard => STANDARD,
        Profile::Off => return Ok(Vec::new()),
    };
    let path = profiles.join(file_name(profile).unwrap_or_default());
    match crate::tenants::trusted::read(&path) {
        Ok(text) => compile(&text).map_err(|e| format!("{}: {e}", path.display())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => compile(built_in),
        Err(e) => Err(format!("{}: {e}", path.display())),
    }
}

/// Takes `"arch"` and the filters' own comments out, and the rules that are for other machines.
fn for_this_machine(text: &str) -> Result<Value, String> {
    let mut file: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let filters = file.as_object_mut().ok_or("an object of filters is wanted")?;
    for (name, filter) in filters {
        let filter = filter.as_object_mut().ok_or_else(|| format!("{name} is no filter"))?;
        filter.remove("comment");
        let rules = filter
            .get_mut("filter")
            .and_then(Value::as_array_mut)
            .ok_or_else(|| format!("{name} has no list `filter`"))?;
        for rule in rules.iter() {
            let why = rule.get("comment").and_then(Value::as_str).unwrap_or_default();
            if why.trim().is_empty() {
                return Err(format!("a rule of {name} has no reason (`comment`): {rule}"));
            }
        }
        rules.retain(|rule| match rule.get("arch").and_then(Value::as_array) {
            Some(names) => names.iter().any(|n| n.as_str() == Some(std::env::consts::ARCH)),
            None => true,
        });
        for rule in rules {
            if let Some(rule) = rule.as_object_mut() {
                rule.remove("arch");
            }
        }
    }
    Ok(file)
}

/// Compiles a profile's text.
pub(crate) fn compile(text: &str) -> Result<Vec<Program>, String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|_| format!("there are no seccomp filters for {}", std::env::consts::ARCH))?;
    let json = for_this_machine(text)?.to_string();
    let compiled =
        seccompiler::compile_from_json(json.as_bytes(), arch).map_err(|e| e.to_string())?;
    let mut named: Vec<_> = compiled.into_iter().collect();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    let mut programs = Vec::new();
    if cfg!(target_arch = "x86_64") {
        programs.push(no_second_table());
    }
    programs.extend(named.into_iter().map(|(_, program)| {
        program
            .into_iter()
            .map(|i| Instruction { code: i.code, jt: i.jt, jf: i.jf, k: i.k })
            .collect()
    }));
    Ok(programs)
}

/// Installs the filters for this process. `no_new_privs` must be set. What they refuse is refused from now on.
pub(crate) fn install(programs: &[Program]) -> Result<(), String> {
    // Of two errors for one call the kernel gives the later filter's.
    for program in programs {
        let program: Vec<sock_filter> = program
            .iter()
            .map(|i| sock_filter { code: i.code, jt: i.jt, jf: i.jf, k: i.k })
            .collect();
        seccompiler::apply_filter(&program).map_err(|e| e.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profiles_compile() {
        for (text, least) in [(STRICT, 200), (STANDARD, 60)] {
            let programs = compile(text).unwrap();
            let longest = programs.iter().map(Vec::len).max().unwrap();
            assert!(longest > least && longest <= 4096, "{longest} instructions");
            assert!(programs.iter().all(|p| !p.is_empty()));
        }
        assert!(load(Profile::Off, Path::new("/nowhere")).unwrap().is_empty());
    }

    #[test]
    fn the_profiles_say_nothing_twice_and_do_not_contradict_themselves() {
        for text in [STRICT, STANDARD] {
            let file: Value = serde_json::from_str(text).unwrap();
            let mut seen = std::collections::HashSet::new();
            for filter in file.as_object().unwrap().values() {
                for rule in filter["filter"].as_array().unwrap() {
                    let key = format!("{} {}", rule["syscall"], rule["args"]);
                    assert!(seen.insert(key.clone()), "{key} twice");
                }
            }
        }
    }

    #[test]
    fn a_rule_without_a_reason_is_refused() {
        let text = r#"{"a": {"mismatch_action": "allow", "match_action": {"errno": 1},
            "filter": [{"syscall": "ptrace"}]}}"#;
        assert!(compile(text).unwrap_err().contains("no reason"));
        assert!(compile("[]").is_err());
        let text = text.replace("\"ptrace\"", "\"ptrace\", \"comment\": \"x\"");
        assert!(compile(&text).is_ok());
        assert!(compile(&text.replace("ptrace", "no_such_call")).is_err());
    }

    #[test]
    fn rules_for_other_machines_are_left_out() {
        let text = r#"{"a": {"mismatch_action": "allow", "match_action": {"errno": 1}, "filter": [
            {"syscall": "ptrace", "comment": "x"},
            {"syscall": "no_such_call", "comment": "x", "arch": ["pdp11"]}]}}"#;
        assert!(compile(text).is_ok());
    }
}
