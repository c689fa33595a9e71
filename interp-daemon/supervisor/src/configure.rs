//! What the supervisor is told: configurations from httpd's parent, and its own file.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use vivarium_protocol::codes;
use vivarium_protocol::control::{Config, FromParent};
use vivarium_protocol::seqpacket::{self, PacketError};
use vivarium_protocol::{PROTOCOL_VERSION, codec};

use crate::config::ConfigError;
use crate::log::escape;
use crate::server::{Server, TURN};
use crate::spawn::Launch;
use crate::sys::users;

impl Server {
    // ---- the channel to httpd's parent ----

    /// Takes whatever the parent has sent. Also called before a child's hello is judged: its configuration was sent
    /// before the child was born, so it is here.
    pub(crate) fn channel_readable(&mut self) {
        for _ in 0..TURN {
            let Some(channel) = &self.channel else { return };
            match seqpacket::recv_bytes(channel, &mut self.buffer, true) {
                Ok((len, mut fds)) => {
                    let bytes = self.buffer.get(..len).unwrap_or_default();
                    match codec::decode(bytes) {
                        Ok(FromParent::Config(config)) if fds.len() <= 1 => {
                            self.configure(config, fds.pop());
                        }
                        Ok(_) => self.bad_channel_packet("more descriptors than expected"),
                        Err(e) => self.bad_channel_packet(&e.to_string()),
                    }
                }
                Err(e) if e.would_block() => return,
                Err(PacketError::Cut) => self.bad_channel_packet("it is too long"),
                Err(_) => {
                    if let Some(channel) = self.channel.take() {
                        self.poller.remove(&channel);
                    }
                    self.stop("httpd has ended");
                    return;
                }
            }
        }
    }

    /// The channel itself is not given up: its end would mean that httpd has ended.
    fn bad_channel_packet(&mut self, why: &str) {
        let reason = format!(
            "httpd's module sent a configuration that cannot be understood ({}): are module and vivariumd of one version?",
            escape(why.as_bytes(), 200)
        );
        self.log.error(codes::BAD_PACKET, format_args!("{reason}"));
        if self.launch.is_none() {
            self.refuse = Some(reason);
            self.start_listening();
        }
    }

    pub(crate) fn start_listening(&mut self) {
        if let Err(e) = self.listen(true) {
            self.log
                .error(codes::SOCKET, format_args!("the listening socket cannot be watched: {e}"));
            self.stop("it cannot listen");
        }
    }

    fn configure(&mut self, config: Config, log_fd: Option<OwnedFd>) {
        if let Some(fd) = log_fd {
            match rustix::stdio::dup2_stderr(&fd) {
                Ok(()) => self.log.replaced(),
                Err(e) => self.log.error(
                    codes::SUPERVISOR_LIMIT,
                    format_args!("httpd's error log cannot be taken over: {e}"),
                ),
            }
        }
        if config.version != PROTOCOL_VERSION {
            let reason = format!(
                "httpd's module speaks protocol {}, vivariumd speaks {PROTOCOL_VERSION}: restart httpd (not gracefully) \
                 so that both are of one version",
                config.version
            );
            self.log.error(codes::VERSION_MISMATCH, format_args!("{reason}"));
            self.refuse = Some(reason);
            self.start_listening();
            return;
        }
        if self.instance.is_some_and(|known| known != config.instance) {
            self.log.error(
                codes::BAD_PACKET,
                format_args!(
                    "a configuration of another httpd came over the channel and is ignored"
                ),
            );
            return;
        }
        self.refuse = None;
        self.instance = Some(config.instance);
        self.launch = Some(Rc::new(Launch {
            package_dir: config.package_dir,
            extension: config.extension,
            optimize: config.optimize,
            httpd: Some((config.child_uid, config.child_gid)),
        }));
        self.httpd_uid = Some(config.child_uid);
        self.tenants.told_dir = Some(config.tenants_dir).filter(|d| !d.is_empty()).map(Into::into);
        self.generations.announce(config.instance, config.generation);
        self.reload();
        self.log.info(
            codes::CONFIGURED,
            format_args!(
                "generation {} of the httpd in {} is in force",
                config.generation,
                escape(config.server_root.as_bytes(), 500)
            ),
        );
        self.retire_old();
        self.start_listening();
    }

    // ---- the configuration file ----

    /// Reads the file and the tenants' again. A bad one changes nothing. Gives what there is to say, and whether all is
    /// right.
    pub(crate) fn reload(&mut self) -> (bool, Vec<String>) {
        let error = self.reload_settings();
        let (right, mut lines) = self.reload_tenants();
        let ok = right && error.is_none();
        lines.splice(0..0, error);
        let now = Instant::now();
        for pool in self.pools.values_mut() {
            pool.hurry(now);
        }
        (ok, lines)
    }

    /// What is wrong with the configuration file, if anything.
    fn reload_settings(&mut self) -> Option<String> {
        match self.source.load() {
            Ok(settings) => {
                self.settings = Ok(Rc::new(settings));
                self.apply_settings();
                None
            }
            Err(e) => {
                self.bad_settings(&e);
                Some(e.to_string())
            }
        }
    }

    fn bad_settings(&mut self, e: &ConfigError) {
        match &mut self.settings {
            Ok(_) => self.log.error(
                codes::SUPERVISOR_CONFIG,
                format_args!("{e}; what was read before stays in force"),
            ),
            Err(reason) => {
                *reason = e.to_string();
                self.log.error(
                    codes::SUPERVISOR_CONFIG,
                    format_args!("{e}; no Python is run until this is corrected"),
                );
            }
        }
    }

    pub(crate) fn apply_settings(&mut self) {
        let Ok(settings) = &self.settings else { return };
        self.log.set_level(settings.log.level);
        if self.managed {
            return;
        }
        let user = match &settings.httpd.user {
            Some(name) => users::by_name(name.get()).ok().flatten(),
            None => default_httpd_user(),
        };
        if let (None, Some(name)) = (&user, &settings.httpd.user) {
            self.log.error(
                codes::SUPERVISOR_CONFIG,
                format_args!(
                    "{}: the user {} in [httpd] does not exist: httpd's children cannot connect",
                    self.source.path().display(),
                    name.get()
                ),
            );
        }
        self.httpd_uid = user.as_ref().map(|u| u.uid);
        if let Some(launch) = &self.launch {
            let mut launch = Launch::clone(launch);
            launch.httpd = user.map(|u| (u.uid, u.gid));
            self.launch = Some(Rc::new(launch));
        }
    }
}

/// Debian's, Fedora's, and others' names for the user of httpd's children.
pub(crate) fn default_httpd_user() -> Option<users::User> {
    ["www-data", "apache", "httpd", "http"]
        .iter()
        .find_map(|name| users::by_name(name).ok().flatten())
}
