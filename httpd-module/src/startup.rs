//! What a pool's workers do and know before their first request: `PythonImport` and the main server.

use vivarium_protocol::codec;
use vivarium_protocol::codes;
use vivarium_protocol::control::{MAX_STARTUP, PoolKey};
use vivarium_protocol::message::Startup;
use vivarium_protocol::policy::{DEFAULT_TENANT, is_default};

use crate::apache::log::{self, Level};
use crate::apache::{ending, server};
use crate::conversation::run;
use crate::link;

/// The start-up data of a pool, encoded.
pub(crate) fn data(key: &PoolKey) -> Option<Vec<u8>> {
    let _inside = ending::inside()?;
    let main = server::main()?;
    let conf = main.conf()?;
    // As mod_python does it: the last directive first.
    let imports = conf.imports.iter().rev();
    let startup = Startup {
        imports: imports
            .filter(|(_, interpreter)| run::key_of(DEFAULT_TENANT, interpreter) == *key)
            .map(|(what, _)| what.clone())
            .collect(),
        main_server: if is_default(&key.tenant) { main.info() } else { main.bare_info() },
    };
    let encoded = codec::encode(&startup).ok().filter(|bytes| bytes.len() <= MAX_STARTUP);
    if encoded.is_none() {
        let text = format!(
            "{}: the main server's options and the imports of interpreter {} have more than {MAX_STARTUP} bytes: \
             PythonImport does not run there",
            codes::CONFIG,
            key.interpreter
        );
        log::server(Some(main), Level::Err, &text);
    }
    encoded
}

/// In a new child: the pools that have something to import are started now, not by the first request.
pub(crate) fn begin() {
    let Some(conf) = server::main().and_then(server::Server::conf) else { return };
    let mut keys: Vec<PoolKey> =
        conf.imports.iter().map(|(_, i)| run::key_of(DEFAULT_TENANT, i)).collect();
    keys.sort();
    keys.dedup();
    if keys.is_empty() {
        return;
    }
    let started = ending::spawn("vivarium-start", move || {
        for key in keys {
            if let Some(Err(no)) = link::get().map(|l| l.pool(&key)) {
                let text = format!("{}: PythonImport: {}", codes::NO_WORKER, no.reason);
                log::server(None, Level::Err, &text);
            }
        }
    });
    if let Err(e) = started {
        log::server(None, Level::Err, &format!("{}: PythonImport: {e}", codes::NO_WORKER));
    }
}
