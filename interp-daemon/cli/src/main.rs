//! `vivarium`: what the administrator types.
//!
//! `check` looks at the machine, the configuration and the tenants with the supervisor's own code; `reload` and `status`
//! ask a running supervisor at its socket. Nothing here needs httpd.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use vivarium_supervisor::admin::{self, Answer, Request, Status};
use vivarium_supervisor::check;

/// Looks after Vivarium: the Python behind Apache httpd.
#[derive(Debug, Parser)]
#[command(name = "vivarium", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what this machine can enforce, what each tenant gets, and what is missing.
    ///
    /// Exit code 0: everything that the files ask for is there; 1: a tenant lacks a protection; 2: a file is wrong or a
    /// tenant cannot be served. Run it as the user that vivariumd runs as, usually root.
    Check {
        /// The configuration file (default: $VIVARIUM_CONFIG, else /etc/vivarium/vivariumd.toml).
        #[arg(long)]
        config: Option<PathBuf>,
        /// Where the tenants' files are (default: as the configuration says).
        #[arg(long)]
        tenants_dir: Option<PathBuf>,
        /// Only these tenants; ~USER is one of a template.
        tenants: Vec<String>,
    },
    /// Have vivariumd read its configuration and all tenants' files again; say what has changed and what is wrong.
    ///
    /// Exit code 0: all files are right; 1: some are wrong, and those tenants stay as they were; 2: there is no
    /// supervisor to ask.
    Reload(Which),
    /// Say how vivariumd and its pools are.
    ///
    /// Exit code 0: all is well; 1: a file is wrong or a pool has no worker; 2: there is no supervisor to ask.
    Status(Which),
}

/// Which supervisor.
#[derive(Debug, Args)]
struct Which {
    /// The run directory (default: $VIVARIUM_RUN_DIR, else /run/vivarium, for others than root
    /// $XDG_RUNTIME_DIR/vivarium).
    #[arg(long)]
    run_dir: Option<PathBuf>,
    /// The supervisor's process, if there are several.
    #[arg(long)]
    pid: Option<u32>,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Check { config, tenants_dir, tenants } => {
            let report = check::check(&check::Options { config, tenants_dir, tenants });
            print!("{}", report.text);
            Ok(report.verdict as u8)
        }
        Command::Reload(which) => ask(&which, Request::Reload).map(|a| said(&a)),
        Command::Status(which) => ask(&which, Request::Status).map(|a| said(&a)),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("vivarium: {e}");
            ExitCode::from(2)
        }
    }
}

fn ask(which: &Which, request: Request) -> Result<Answer, String> {
    let dir = admin::run_dir(which.run_dir.as_deref())
        .ok_or("there is no run directory: name it with --run-dir")?;
    let found: Vec<(u32, PathBuf)> = admin::sockets(&dir)
        .into_iter()
        .filter(|(pid, _)| which.pid.is_none_or(|wanted| wanted == *pid))
        .collect();
    match found.as_slice() {
        [] => Err(format!(
            "no supervisor can be asked in {}: none runs, it has another run directory (--run-dir), or you are neither \
             root nor its user",
            dir.display()
        )),
        [(_, path)] => admin::ask(path, request),
        several => {
            let pids: Vec<String> = several.iter().map(|(pid, _)| pid.to_string()).collect();
            Err(format!("several supervisors run: choose with --pid one of {}", pids.join(", ")))
        }
    }
}

/// Prints an answer; the exit code.
fn said(answer: &Answer) -> u8 {
    match answer {
        Answer::Refused => {
            eprintln!("vivarium: the supervisor does not talk to this user");
            2
        }
        Answer::Reloaded { ok, lines } => {
            if lines.is_empty() {
                println!("read again; nothing has changed");
            }
            for line in lines {
                println!("{line}");
            }
            u8::from(!ok)
        }
        Answer::Status(status) => show(status),
    }
}

fn show(status: &Status) -> u8 {
    let how = if status.managed { "managed by httpd" } else { "a service" };
    println!("vivariumd {} (pid {}), {how}", status.version, status.pid);
    println!("configuration: {}", status.configuration);
    println!("tenants: {} files in {}", status.tenants, status.tenants_dir);
    for error in &status.wrong {
        println!("  WRONG: {error}");
    }
    println!("httpd children: {}; pools: {}", status.children, status.pool_count);
    let mut down = false;
    for pool in &status.pools {
        let generation = pool.generation;
        println!(
            "  {} (generation {generation}): {} of {} workers",
            pool.label, pool.ready, pool.slots
        );
        if let Some(why) = &pool.down {
            down = true;
            println!("    DOWN: {why}");
        }
    }
    u8::from(down || !status.wrong.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
        let check = Arguments::try_parse_from(["vivarium", "check", "--config", "/c", "alice"]);
        assert!(matches!(
            check.unwrap().command,
            Command::Check { tenants, .. } if tenants == ["alice"]
        ));
        assert!(Arguments::try_parse_from(["vivarium", "reload", "--pid", "x"]).is_err());
        assert!(Arguments::try_parse_from(["vivarium"]).is_err());
    }

    #[test]
    fn what_is_wrong_is_in_the_exit_code() {
        let reloaded = |ok| Answer::Reloaded { ok, lines: Vec::new() };
        assert_eq!((said(&reloaded(true)), said(&reloaded(false))), (0, 1));
        assert_eq!(said(&Answer::Refused), 2);
        let dir = PathBuf::from("/no/such/run/directory");
        let which = Which { run_dir: Some(dir), pid: None };
        assert!(ask(&which, Request::Status).unwrap_err().contains("--run-dir"));
    }
}
