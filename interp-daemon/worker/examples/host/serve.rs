//! httpd's part: one conversation, served until its `Leave`.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value as Json, json};
use vivarium_protocol::codec;
use vivarium_protocol::fields::Field;
use vivarium_protocol::frame::{
    BODY_CLOSE, BODY_FILTER, BODY_FLUSH, BODY_SYNC, Header, Kind, NO_RID,
};
use vivarium_protocol::lane::{Channel, Guard};
use vivarium_protocol::message::{
    Call, Change, ENTER_CONNECTION, ErrorKind, FilterRef, HandlerRef, Leave, Op, Phase, Reply,
    TableId, Then, write_enter_head,
};
use vivarium_protocol::page::PoolPage;
use vivarium_protocol::region::{FLAG_ABORTED, Owner, Region};
use vivarium_protocol::seqpacket;
use vivarium_protocol::wire::{Reader, Writer};

use crate::Failure;
use crate::model::{Held, Request, World, bytes, config, connection, server, text};

/// Tests have a watchdog of their own: never stop by ourselves, except when the lane is taken away.
struct Always;
impl Guard for Always {
    type Stop = std::convert::Infallible;
    fn check(&mut self) -> Result<(), Self::Stop> {
        Ok(())
    }
}

/// What a filter's call reads.
#[derive(Default)]
struct Brigade {
    filter: u32,
    bytes: Vec<u8>,
    at: usize,
    eos: bool,
    closed: bool,
}

/// A conversation that was offered.
pub(crate) struct Offer {
    channel: Channel,
    socket: Arc<OwnedFd>,
    world: Arc<World>,
    tree: u64,
    command: Json,
    brigades: Vec<Brigade>,
    /// What the phase answers beside its number.
    phase_answer: Json,
    /// How much of a connection's input was read.
    input_at: usize,
    depth: u16,
    trace: Vec<Json>,
    logs: Vec<Json>,
    traced: bool,
}

fn phase(name: &str) -> Result<Phase, Failure> {
    let all = (1..=20).filter_map(Phase::from_u8);
    all.into_iter()
        .find(|p| format!("{p:?}") == name)
        .ok_or_else(|| format!("no phase {name}").into())
}

impl Offer {
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn new(
        region: Arc<Region>,
        socket: Arc<OwnedFd>,
        page: Arc<PoolPage>,
        world: Arc<World>,
        lane: u32,
        conversation: u32,
        me: Owner,
        command: Json,
    ) -> Result<Self, Failure> {
        let tree = command["tree"].as_u64().unwrap_or(1);
        let rid = command["rid"].as_u64().map_or(0, |r| r as u32);
        if command["request"].is_object() {
            let request = Request::of_json(&command["request"])?;
            world.with(tree, rid, |r| *r = request);
        }
        let phase = phase(command["phase"].as_str().unwrap_or("Content"))?;
        let channel = Channel::host(Arc::clone(&region), lane, conversation);
        let mut offer = Self {
            channel,
            socket,
            world,
            tree,
            brigades: Vec::new(),
            phase_answer: Json::Null,
            input_at: 0,
            depth: 1,
            trace: Vec::new(),
            logs: Vec::new(),
            traced: command["trace"].as_bool().unwrap_or(true),
            command,
        };
        let rid =
            if offer.command["rid"].is_null() && phase == Phase::Connection { NO_RID } else { rid };
        let handlers = offer.command["handlers"].clone();
        let flags = offer.command["flags"].as_u64().unwrap_or(1) as u8;
        if let Some(text) = offer.command["garbage"].as_str() {
            let garbage = text.to_owned();
            offer.channel.send(Kind::Enter, 0, 1, rid, &[garbage.as_bytes()], &mut Always)?;
        } else if matches!(phase, Phase::OutputFilter | Phase::InputFilter | Phase::Ssi) {
            offer.brigades.push(Brigade {
                filter: offer.command["filter"].as_u64().unwrap_or(1) as u32,
                bytes: bytes(&offer.command["brigade"]),
                eos: offer.command["eos"].as_bool().unwrap_or(true),
                ..Brigade::default()
            });
            offer.enter(rid, phase, flags, &handlers, true)?;
        } else {
            let with_snapshot =
                !matches!(phase, Phase::Cleanup | Phase::Forget | Phase::Connection);
            offer.enter(rid, phase, flags, &handlers, with_snapshot)?;
        }
        if offer.command["aborted"].as_bool().unwrap_or(false) {
            region.flags(lane).fetch_or(FLAG_ABORTED, Ordering::Release);
        }
        let to = offer.command["pinned"].as_bool().unwrap_or(false).then_some(me);
        region.offer(lane, to);
        page.ring(to.map(|o| o.slot));
        Ok(offer)
    }

    fn enter(
        &mut self,
        rid: u32,
        phase: Phase,
        flags: u8,
        handlers: &Json,
        with_snapshot: bool,
    ) -> Result<(), Failure> {
        let names: Vec<Vec<u8>> = handlers.as_array().into_iter().flatten().map(bytes).collect();
        let list: Vec<_> = names
            .iter()
            .map(|name| HandlerRef {
                name,
                directory: Some(b"/srv/"),
                silent: false,
                is_location: false,
            })
            .collect();
        let filter = self
            .brigades
            .last()
            .filter(|_| matches!(phase, Phase::OutputFilter | Phase::InputFilter | Phase::Ssi));
        let filter = filter.map(|b| FilterRef {
            id: b.filter,
            name: b"upper",
            is_input: phase == Phase::InputFilter,
            is_sync: false,
            ahead: &[],
            then: Then::Ask,
        });
        let mut payload = Vec::new();
        let mut w = Writer::new(&mut payload);
        let extension = self.command["extension"].as_str();
        write_enter_head(
            &mut w,
            phase,
            flags,
            self.tree,
            &list,
            filter,
            extension.map(str::as_bytes),
        );
        let section = w.begin_section();
        if with_snapshot {
            self.world.with(self.tree, rid, |r| r.write_snapshot(&mut payload));
        }
        let mut w = Writer::new(&mut payload);
        w.end_section(section);
        let section = w.begin_section();
        if flags & ENTER_CONNECTION != 0 {
            codec::encode_into(&connection(), &mut payload)?;
        }
        Writer::new(&mut payload).end_section(section);
        self.channel.send(Kind::Enter, 0, self.depth, rid, &[&payload], &mut Always)?;
        Ok(())
    }

    /// Serves the conversation; the report says what came.
    pub(crate) fn serve(mut self) -> Json {
        let done = self.until_leave();
        let mut report = match done {
            Ok(leave) => json!({
                "result": leave.result,
                "keep": leave.keep,
                "cleanups": leave.cleanups,
            }),
            Err(error) => json!({ "error": error.to_string() }),
        };
        report["answer"] = self.phase_answer;
        report["trace"] = Json::Array(self.trace);
        report["logs"] = Json::Array(self.logs);
        report
    }

    fn note(&mut self, what: Json) {
        if self.traced {
            self.trace.push(what);
        }
    }

    fn until_leave(&mut self) -> Result<Leave, Failure> {
        let depth = self.depth;
        let mut payload = Vec::new();
        loop {
            let header = self.channel.recv(&mut Always)?;
            self.channel.read_payload(&mut payload, &mut Always)?;
            if header.depth != depth {
                return Err(
                    format!("{:?} at depth {}, not {depth}", header.kind, header.depth).into()
                );
            }
            match header.kind {
                Kind::Leave => return Ok(codec::decode(&payload)?),
                Kind::Changes => self.changes(&header, &payload)?,
                Kind::Body => self.body(&header, &payload)?,
                Kind::Call => {
                    let call: Call<'_> = codec::decode(&payload)?;
                    self.call(&header, &call)?;
                }
                kind => return Err(format!("a {kind:?} frame").into()),
            }
        }
    }

    fn changes(&mut self, header: &Header, payload: &[u8]) -> Result<(), Failure> {
        self.note(json!(["changes", header.rid]));
        let mut reader = Reader::new(payload);
        while let Some(change) = Change::read(&mut reader)? {
            self.world.with(self.tree, header.rid, |r| r.change(&change));
        }
        Ok(())
    }

    fn reply(&mut self, header: &Header, reply: &Reply<'_>) -> Result<(), Failure> {
        let encoded = codec::encode(reply)?;
        self.channel.send(Kind::Reply, 0, header.depth, header.rid, &[&encoded], &mut Always)?;
        Ok(())
    }

    fn body(&mut self, header: &Header, payload: &[u8]) -> Result<(), Failure> {
        self.note(json!(["body", header.rid, header.flags, payload.len()]));
        if header.flags & BODY_FILTER != 0 {
            self.world.with(self.tree, header.rid, |r| r.out.extend_from_slice(payload));
            if header.flags & BODY_CLOSE != 0 {
                self.brigades.last_mut().ok_or("no filter runs")?.closed = true;
            }
            return Ok(());
        }
        let filter = self.world.with(self.tree, header.rid, |r| {
            let sent = r.out.len() as i64 + payload.len() as i64;
            r.fields.insert(Field::BytesSent as u8, Held::Int(sent));
            r.fields.insert(Field::SentBodyct as u8, Held::Int(1));
            r.filters.iter().find(|f| !f.disabled).cloned()
        });
        match filter {
            None => self.world.with(self.tree, header.rid, |r| r.out.extend_from_slice(payload)),
            Some(_) if header.flags & BODY_SYNC == 0 => {
                return Err("an asynchronous write to a request with a Python filter".into());
            }
            Some(filter) => {
                self.brigades.push(Brigade {
                    filter: filter.id,
                    bytes: payload.to_vec(),
                    ..Brigade::default()
                });
                let handlers = json!([text(&filter.handler)]);
                self.nested(header.rid, Phase::OutputFilter, &handlers)?;
                self.brigades.pop();
            }
        }
        let _ = header.flags & BODY_FLUSH;
        if header.flags & BODY_SYNC != 0 {
            self.reply(header, &Reply::Ok)?;
        }
        Ok(())
    }

    fn nested(&mut self, rid: u32, phase: Phase, handlers: &Json) -> Result<Leave, Failure> {
        self.depth += 1;
        let flags = self.command["nested_flags"].as_u64().unwrap_or_default() as u8;
        self.enter(rid, phase, flags, handlers, true)?;
        let left = self.until_leave()?;
        self.note(json!(["left", self.depth, left.result]));
        self.depth -= 1;
        Ok(left)
    }

    fn data(&mut self, header: &Header, bytes: &[u8]) -> Result<(), Failure> {
        for part in bytes.chunks(256 << 10) {
            self.channel.send(Kind::Data, 0, header.depth, header.rid, &[part], &mut Always)?;
        }
        Ok(())
    }

    fn call(&mut self, header: &Header, call: &Call<'_>) -> Result<(), Failure> {
        let shown = format!("{call:?}");
        let name = shown.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        let what = if let Call::Op { op, .. } = call { format!("{op:?}") } else { name.to_owned() };
        self.note(json!(["call", header.rid, what]));
        if self.command["mark"] == what {
            self.world.stall();
        }
        let fails = self.command["fail"][&what].clone();
        if fails == "stall" {
            self.world.stall();
            return Ok(());
        }
        if let Some(kind) = fails[0].as_str() {
            let kind = match kind {
                "Io" => ErrorKind::Io,
                "Value" => ErrorKind::Value,
                "Permission" => ErrorKind::Permission,
                "ServerReturn" => ErrorKind::ServerReturn,
                _ => ErrorKind::State,
            };
            let message = bytes(&fails[1]);
            return self.reply(header, &Reply::Error { kind, text: &message });
        }
        self.answer(header, call)
    }

    fn answer(&mut self, header: &Header, call: &Call<'_>) -> Result<(), Failure> {
        let (world, tree, rid) = (Arc::clone(&self.world), self.tree, header.rid);
        match call {
            Call::Read(_) | Call::ReadSome(_) => {
                let some = self.command["some"].as_u64().unwrap_or(u64::MAX) as usize;
                let want = match call {
                    Call::Read(n) => n.map_or(usize::MAX, |n| n as usize),
                    Call::ReadSome(n) => (*n as usize).min(some),
                    _ => 0,
                };
                let part = world.with(tree, rid, |r| {
                    let end = r.body.len().min(r.body_at.saturating_add(want));
                    let part = r.body[r.body_at..end].to_vec();
                    r.body_at = end;
                    let left = (r.body.len() - end) as i64;
                    r.fields.insert(Field::Remaining as u8, Held::Int(left));
                    part
                });
                self.data(header, &part)?;
                self.reply(header, &Reply::Int(part.len() as i64))
            }
            Call::FilterRead(n) => {
                let brigade = self.brigades.last_mut().ok_or("no filter runs")?;
                let want = n.map_or(usize::MAX, |n| n as usize);
                let end = brigade.bytes.len().min(brigade.at.saturating_add(want));
                let part = brigade.bytes[brigade.at..end].to_vec();
                brigade.at = end;
                let over = part.is_empty() && brigade.eos;
                self.data(header, &part)?;
                self.reply(header, &if over { Reply::None } else { Reply::Int(part.len() as i64) })
            }
            Call::ConnectionRead(n) | Call::ConnectionReadLine(n) => {
                let rest = bytes(&self.command["input"]).split_off(self.input_at);
                let line = matches!(call, Call::ConnectionReadLine(_));
                let end =
                    rest.iter().position(|&b| b == b'\n' && line).map_or(rest.len(), |n| n + 1);
                let end = end.min(n.map_or(usize::MAX, |n| n as usize));
                self.input_at += end;
                self.data(header, &rest[..end])?;
                let ended = Reply::Error { kind: ErrorKind::Io, text: b"Connection read error" };
                self.reply(header, &if end == 0 { ended } else { Reply::Int(end as i64) })
            }
            Call::Argument(n) => {
                let argument = self.command["arguments"].get(usize::from(*n)).map(bytes);
                self.reply(header, &Reply::Text(argument.as_deref()))
            }
            Call::Answer(answer) => {
                self.phase_answer = text(answer);
                self.reply(header, &Reply::Ok)
            }
            Call::ConnectionWrite(data) => {
                world.with(tree, 0, |r| r.out.extend_from_slice(data));
                self.reply(header, &Reply::Ok)
            }
            Call::FilterClose => {
                self.brigades.last_mut().ok_or("no filter runs")?.closed = true;
                self.reply(header, &Reply::Ok)
            }
            Call::FilterPassOn => {
                let brigade = self.brigades.last_mut().ok_or("no filter runs")?;
                let rest = brigade.bytes.split_off(brigade.at);
                world.with(tree, rid, |r| r.out.extend_from_slice(&rest));
                self.reply(header, &Reply::Ok)
            }
            Call::FilterDisable => {
                let id = self.brigades.last().ok_or("no filter runs")?.filter;
                world.with(tree, rid, |r| {
                    r.filters.iter_mut().filter(|f| f.id == id).for_each(|f| f.disabled = true);
                });
                self.reply(header, &Reply::Ok)
            }
            Call::Log { scope, level, text: line } => {
                self.logs.push(json!([format!("{scope:?}"), level, text(line)]));
                self.reply(header, &Reply::Ok)
            }
            Call::Flush | Call::FilterFlush => self.reply(header, &Reply::Ok),
            Call::SendFile { serial, offset, len } => {
                let mut packet = [0; 64];
                let (n, fds) = seqpacket::recv_bytes(&*self.socket, &mut packet, true)?;
                let sent = u32::from_le_bytes([packet[8], packet[9], packet[10], packet[11]]);
                let conversation = u32::from_le_bytes([packet[4], packet[5], packet[6], packet[7]]);
                if n != 12 || sent != *serial || conversation != header.conversation {
                    return Err("a descriptor packet that does not fit its call".into());
                }
                let mut contents = Vec::new();
                let fd = fds.into_iter().next().ok_or("no descriptor")?;
                std::io::Read::read_to_end(&mut std::fs::File::from(fd), &mut contents)?;
                let end =
                    len.map_or(contents.len() as u64, |l| (offset + l).min(contents.len() as u64));
                let part = contents.get(*offset as usize..end as usize).unwrap_or_default();
                world.with(tree, rid, |r| r.out.extend_from_slice(part));
                self.reply(header, &Reply::Int(part.len() as i64))
            }
            Call::InternalRedirect(uri) => {
                let target =
                    self.command["redirects"][String::from_utf8_lossy(uri).as_ref()].clone();
                let mut request = Request::of_json(&target["request"])?;
                request.prev = Some(rid);
                let new = world.add(tree, request);
                world.with(tree, rid, |r| r.next = Some(new));
                self.nested(new, Phase::Content, &target["handlers"])?;
                self.reply(header, &Reply::Ok)
            }
            Call::AddFilter { name, is_input } => {
                let known = world.with(tree, rid, |r| {
                    let Some(handler) = r.registered.get(*name).cloned() else { return false };
                    let id = r.filters.len() as u32 + 10;
                    if !is_input {
                        r.filters.push(crate::model::Filter { id, handler, disabled: false });
                    }
                    true
                });
                let refusal = Reply::Error { kind: ErrorKind::Value, text: b"no such filter" };
                self.reply(header, if known { &Reply::Ok } else { &refusal })
            }
            Call::RegisterFilter { name, handler, .. } => {
                world.with(tree, rid, |r| r.registered.insert(name.to_vec(), handler.to_vec()));
                self.reply(header, &Reply::Ok)
            }
            Call::Field(number) => {
                let field = Field::from_u8(*number).ok_or("no such field")?;
                let value = world.with(tree, rid, |r| r.field(field));
                let mut encoded = Vec::new();
                value.borrow().write(&mut Writer::new(&mut encoded));
                self.reply(header, &Reply::Value(&encoded))
            }
            Call::Table(table) => {
                let mut encoded = Vec::new();
                world.with(tree, rid, |r| r.write_table(*table, &mut Writer::new(&mut encoded)));
                self.reply(header, &Reply::Bytes(&encoded))
            }
            Call::Snapshot => {
                let mut encoded = Vec::new();
                world.with(tree, rid, |r| r.write_snapshot(&mut encoded));
                self.reply(header, &Reply::Bytes(&encoded))
            }
            Call::Connection => self.reply(header, &Reply::Connection(connection())),
            Call::Server(number) => self.reply(header, &Reply::Server(server(*number))),
            Call::AddCgiVars => {
                let mut encoded = Vec::new();
                world.with(tree, rid, |r| {
                    r.tables.entry(3).or_default().push((b"GATEWAY".to_vec(), b"CGI/1.1".to_vec()));
                    r.write_table(TableId::SubprocessEnv, &mut Writer::new(&mut encoded));
                });
                self.reply(header, &Reply::Bytes(&encoded))
            }
            Call::Op { op, number, text } => {
                let reply = match op {
                    Op::ConstructUrl => Reply::Text(Some(text)),
                    Op::IsHttps | Op::MeetsConditions | Op::DiscardRequestBody => Reply::Int(0),
                    Op::MpmQuery => Reply::Int(*number),
                    Op::ExistsConfigDefine => Reply::Int(i64::from(*text == b"YES")),
                    Op::ServerRoot => Reply::Text(Some(b"/etc/apache2")),
                    Op::RemoteHost => Reply::Text(Some(b"127.0.0.2")),
                    Op::BasicAuthPassword => {
                        world.with(tree, rid, |r| {
                            r.fields.insert(Field::User as u8, Held::Str(b"j\xf6rg".to_vec()));
                        });
                        Reply::Text(Some(b"p\xe4ss"))
                    }
                    Op::SetContentLength => {
                        world.with(tree, rid, |r| {
                            r.fields.insert(Field::Clength as u8, Held::Int(*number));
                        });
                        Reply::Ok
                    }
                    Op::Requires => Reply::Text(Some(b"valid-user\ngroup a b")),
                    Op::AddHandlerExtensions => Reply::Text(Some(b"py psp ")),
                    Op::ConfigTree => {
                        let tree = codec::encode(&config())?;
                        return self.reply(header, &Reply::Bytes(&tree));
                    }
                    Op::AuthName | Op::AuthType | Op::DocumentRoot | Op::SslVar => {
                        Reply::Text(None)
                    }
                    _ => Reply::Ok,
                };
                self.reply(header, &reply)
            }
        }
    }
}
