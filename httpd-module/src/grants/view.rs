//! What a confined tenant sees of requests, connections and servers.

use vivarium_protocol::message::{ConnectionInfo, Phase, ServerInfo, TableId};
use vivarium_protocol::policy::{Grants, TenantPolicy};

use super::names;
use crate::apache::request::Request;
use crate::apache::server::Server;
use crate::conversation::tree::{Entry, Tree};
use crate::tenants;

/// A confined tenant's eyes.
pub(crate) struct View<'p> {
    pub(crate) tenant: &'p str,
    pub(crate) policy: &'p TenantPolicy,
}

impl View<'_> {
    /// Whether a request is the tenant's own now.
    pub(crate) fn owns(&self, r: Request<'_>) -> bool {
        tenants::of(r) == self.tenant
    }

    /// Whether a virtual host is the tenant's own as a whole.
    pub(crate) fn owns_server(&self, server: Server<'_>) -> bool {
        tenants::of_server(server.default_dir_conf()) == self.tenant
    }

    /// A relation of one of its requests, if that is its own, too.
    pub(crate) fn relation<'r>(&self, r: Option<Request<'r>>) -> Option<Request<'r>> {
        r.filter(|r| self.owns(*r))
    }

    /// Whether it may see an entry of a table of the request.
    pub(crate) fn shows(&self, r: Request<'_>, table: TableId, name: &[u8]) -> bool {
        match table {
            TableId::HeadersIn => self.shows_header(r, name),
            TableId::Notes | TableId::SubprocessEnv => Tree::known(r)
                .is_none_or(|(_, entry)| !entry.guard.is_of_other(table, name, self.tenant)),
            TableId::ConnectionNotes => self.policy.allows(Grants::CONNECTIONS),
            _ => true,
        }
    }

    /// `Authorization` is httpd's own business where httpd authenticates, as it is for CGI scripts; and always that of a
    /// proxy.
    fn shows_header(&self, r: Request<'_>, name: &[u8]) -> bool {
        if self.policy.allows(Grants::AUTHORIZATION) {
            return true;
        }
        if name.eq_ignore_ascii_case(b"Proxy-Authorization") {
            return false;
        }
        !name.eq_ignore_ascii_case(b"Authorization") || !authenticates(r)
    }

    /// What it may know of a virtual host; none of others than its request's.
    pub(crate) fn server(&self, own: Server<'_>, asked: Server<'_>) -> Option<ServerInfo> {
        if self.policy.allows(Grants::SERVER_CONFIG) {
            return Some(asked.info());
        }
        if asked.as_ptr() != own.as_ptr() {
            return None;
        }
        let mut info = asked.info();
        info.next = None;
        info.error_fname = None;
        if !self.owns_server(asked) {
            let bare = asked.bare_info();
            info = ServerInfo {
                server_hostname: info.server_hostname,
                port: info.port,
                is_virtual: info.is_virtual,
                server_scheme: info.server_scheme,
                names: info.names,
                ..bare
            };
        }
        Some(info)
    }

    /// What it may know of a connection: not the virtual host of its address, nor what others have noted.
    pub(crate) fn connection(
        &self,
        mut info: ConnectionInfo,
        own: Option<Server<'_>>,
    ) -> ConnectionInfo {
        if !self.policy.allows(Grants::CONNECTIONS) {
            info.notes = vec![0; 4];
        }
        if !self.policy.allows(Grants::SERVER_CONFIG) {
            info.base_server = own.map_or(info.base_server, Server::number);
        }
        info
    }
}

/// Whether httpd itself authenticates at a request's place: with an `AuthType`, and not by the tenant's Python.
pub(crate) fn authenticates(r: Request<'_>) -> bool {
    let own = [Phase::Authen, Phase::CheckPassword];
    r.auth_type().is_some_and(|kind| !kind.eq_ignore_ascii_case(b"none"))
        && !r.dir_conf().is_some_and(|c| own.into_iter().any(|phase| c.has_phase(phase)))
}

/// Notes and variables that a confined tenant has set belong to it.
pub(crate) fn belongs(table: TableId) -> bool {
    matches!(table, TableId::Notes | TableId::SubprocessEnv)
}

/// Whether a variable may be asked for by name.
pub(crate) fn variable(entry: &Entry, policy: &TenantPolicy, name: &[u8]) -> Option<names::Needs> {
    // What is hidden from the table is hidden here.
    let hidden =
        entry.request().is_some_and(authenticates) && !policy.allows(Grants::AUTHORIZATION);
    names::ssl_variable(name).filter(|n| hidden || *n != names::Needs::Grant(Grants::AUTHORIZATION))
}
