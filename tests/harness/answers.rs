//! What the cluster wants of its world: replies, whole or in pieces, and the ends of connections.
//!
//! *Invariants*
//! 1. Links carry frames: the pieces of a reply arrive together with the last of them, and those of
//!    a reply that is broken off never do.
//!
//! *Not here*: how long a frame travels (`link.rs`).

use bytes::Bytes;
use kafka_mockbroker::engine::effect as broker;

use crate::link::{End, LinkId};
use crate::world::World;

impl World {
    pub(crate) fn drive_cluster(&mut self) {
        self.touched.cluster = true;
        self.read_stable();
        while let Some(effect) = self.cluster.poll_effect() {
            match effect {
                broker::Effect::Reply { connection, frame } => {
                    self.links
                        .send(LinkId(connection.0), End::Client, frame, self.now);
                }
                broker::Effect::Piece { connection, bytes } => {
                    self.piece_leaves(LinkId(connection.0), &bytes);
                }
                // Nothing is held back here: a link hands over what arrives.
                broker::Effect::ReadOn { .. } => {}
                broker::Effect::Reset { connection } => {
                    let link = LinkId(connection.0);
                    self.note(format_args!("{} is reset", self.named(link)));
                    self.pieces.remove(&link);
                    self.links.cut(link, self.now);
                }
                broker::Effect::Close { connection } => {
                    let link = LinkId(connection.0);
                    self.pieces.remove(&link);
                    self.note(format_args!("{} closes", self.named(link)));
                    self.links.close(link, End::Broker, self.now);
                }
            }
        }
    }

    fn piece_leaves(&mut self, link: LinkId, bytes: &[u8]) {
        let held = self.pieces.entry(link).or_default();
        held.extend_from_slice(bytes);
        let size = held.first_chunk().copied().map(u32::from_be_bytes);
        if size.is_some_and(|size| held.len() == 4 + size as usize) {
            let frame = Bytes::from(held.split_off(4));
            self.pieces.remove(&link);
            self.links.send(link, End::Client, frame, self.now);
        }
    }
}
