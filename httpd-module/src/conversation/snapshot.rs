//! What an `Enter` tells of a request.

use std::rc::Rc;

use vivarium_protocol::codec;
use vivarium_protocol::message::{
    SNAPSHOT_TABLES, TableId, write_snapshot_fields, write_snapshot_head,
};
use vivarium_protocol::table::write_table;
use vivarium_protocol::wire::Writer;

use super::tree::Tree;
use crate::apache::connection::Connection;
use crate::apache::request::Request;
use crate::apache::server::Server;
use crate::grants::view::View;

/// Writes a request's snapshot.
///
/// With a `view`, as a confined tenant sees it.
pub(crate) fn write(w: &mut Writer<'_>, tree: &Rc<Tree>, r: Request<'_>, view: Option<&View<'_>>) {
    let seen = |relation: Option<Request<'_>>| {
        tree.number(view.map_or(relation, |v| v.relation(relation)))
    };
    let (prev, next, main) = (seen(r.prev()), seen(r.next()), seen(r.main()));
    write_snapshot_head(w, prev, next, main, r.server().number());
    write_snapshot_fields(w, |field| r.field(field));
    for id in SNAPSHOT_TABLES {
        match (id, r.dir_conf()) {
            (TableId::Config, Some(conf)) => w.bytes(conf.encoded_config_ref()),
            (TableId::Options, Some(conf)) => w.bytes(conf.encoded_options_ref()),
            _ => {
                let start = w.begin_section();
                match (r.table(id), view) {
                    (Some(table), None) => write_table(w, table.pairs()),
                    (Some(table), Some(view)) => {
                        write_table(w, table.pairs().filter(|(name, _)| view.shows(r, id, name)));
                    }
                    (None, _) => w.u32(0),
                }
                w.end_section(start);
            }
        }
    }
}

/// A connection's information, encoded.
/// `own` is the virtual host that its request came to.
pub(crate) fn connection(
    c: Connection<'_>,
    view: Option<&View<'_>>,
    own: Option<Server<'_>>,
) -> Vec<u8> {
    let info = c.info();
    codec::encode(&view.map_or_else(|| info.clone(), |v| v.connection(info.clone(), own)))
        .unwrap_or_default()
}
