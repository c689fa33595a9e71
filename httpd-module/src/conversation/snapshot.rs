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

/// Writes a request's snapshot.
pub(crate) fn write(w: &mut Writer<'_>, tree: &Rc<Tree>, r: Request<'_>) {
    let prev = tree.number(r.prev());
    let next = tree.number(r.next());
    let main = tree.number(r.main());
    write_snapshot_head(w, prev, next, main, r.server().number());
    write_snapshot_fields(w, |field| r.field(field));
    for id in SNAPSHOT_TABLES {
        match (id, r.dir_conf()) {
            (TableId::Config, Some(conf)) => w.bytes(conf.encoded_config_ref()),
            (TableId::Options, Some(conf)) => w.bytes(conf.encoded_options_ref()),
            _ => {
                let start = w.begin_section();
                match r.table(id) {
                    Some(table) => write_table(w, table.pairs()),
                    None => w.u32(0),
                }
                w.end_section(start);
            }
        }
    }
}

/// A connection's information, encoded.
pub(crate) fn connection(c: Connection<'_>) -> Vec<u8> {
    codec::encode(&c.info()).unwrap_or_default()
}
