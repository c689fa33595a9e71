//! Landlock: the rules once more, kept by the kernel whatever is mounted and whatever files' modes say.

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};

use super::LandlockSpec;
use super::machine::{LANDLOCK_NETWORK, LANDLOCK_SCOPE};
use super::rules::Access;

/// The newest version whose file rights are used.
fn abi(version: i32) -> ABI {
    match version {
        ..=1 => ABI::V1,
        2 => ABI::V2,
        3 | 4 => ABI::V3,
        _ => ABI::V5,
    }
}

fn rights(access: Access, abi: ABI) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let nodes = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate;
    let wanted = match access {
        Access::Read => read,
        Access::Run => read | AccessFs::Execute,
        Access::Write => AccessFs::from_all(ABI::V5) & !nodes,
        Access::Device => device,
    };
    wanted & AccessFs::from_all(abi)
}

/// Confines this process for good. `no_new_privs` must be set. The kernel must have said all that is asked for: what it
/// has not was left out by whoever made the spec.
pub(crate) fn confine(spec: &LandlockSpec, version: i32) -> Result<(), String> {
    let abi = abi(version);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))
        .map_err(|e| e.to_string())?;
    let missing = |what: &str| format!("{what} cannot be kept by Landlock of version {version}");
    for (ports, access) in
        [(&spec.connect, AccessNet::ConnectTcp), (&spec.bind, AccessNet::BindTcp)]
    {
        if ports.is_some() {
            if version < LANDLOCK_NETWORK {
                return Err(missing("ports"));
            }
            ruleset = ruleset.handle_access(access).map_err(|e| e.to_string())?;
        }
    }
    if spec.scope {
        if version < LANDLOCK_SCOPE {
            return Err(missing("signals"));
        }
        ruleset =
            ruleset.scope(Scope::Signal | Scope::AbstractUnixSocket).map_err(|e| e.to_string())?;
    }
    let mut created = ruleset.create().map_err(|e| e.to_string())?;
    for rule in &spec.rules {
        // What does not exist has no rule: so it stays closed.
        created = created
            .add_rules(path_beneath_rules([&rule.path], rights(rule.access, abi)))
            .map_err(|e| format!("{}: {e}", rule.path))?;
    }
    for (ports, access) in
        [(&spec.connect, AccessNet::ConnectTcp), (&spec.bind, AccessNet::BindTcp)]
    {
        for port in ports.iter().flatten() {
            created = created
                .add_rule(NetPort::new(*port, access))
                .map_err(|e| format!("port {port}: {e}"))?;
        }
    }
    let status = created.restrict_self().map_err(|e| e.to_string())?;
    if status.ruleset != RulesetStatus::FullyEnforced {
        return Err(format!("the kernel enforces it in part only: {:?}", status.ruleset));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_grow_with_the_access() {
        let all = ABI::V5;
        assert!(rights(Access::Run, all).contains(rights(Access::Read, all)));
        assert!(rights(Access::Write, all).contains(rights(Access::Run, all)));
        assert!(!rights(Access::Write, all).contains(AccessFs::MakeChar));
        assert!(!rights(Access::Device, all).contains(AccessFs::IoctlDev));
        assert!(!rights(Access::Read, all).contains(AccessFs::WriteFile));
    }

    #[test]
    fn old_kernels_are_asked_for_what_they_know() {
        assert!(!rights(Access::Write, abi(1)).contains(AccessFs::Truncate));
        assert!(rights(Access::Write, abi(3)).contains(AccessFs::Truncate));
        let scope = LandlockSpec { rules: Vec::new(), connect: None, bind: None, scope: true };
        assert!(confine(&scope, 5).unwrap_err().contains("signals"));
        let ports = LandlockSpec { connect: Some(vec![443]), scope: false, ..scope };
        assert!(confine(&ports, 3).unwrap_err().contains("ports"));
    }
}
