//! One UDP socket: batches in and out, segmentation by the kernel, ECN marks.
//!
//! Path discovery needs datagrams that are never fragmented, and a burst must not overflow the
//! socket, so both are set up here; what a platform lacks is done without.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};

use bytes::BytesMut;
use quinn_udp::{EcnCodepoint, RecvMeta, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

mod group;

pub(crate) use group::lane_of;

/// Several sockets on one address, among which the kernel spreads connections.
///
/// # Errors
/// The address cannot be bound. A platform that cannot spread gives one socket.
pub(crate) fn bind_group(addr: SocketAddr, count: usize) -> io::Result<Vec<Socket>> {
    if count > 1 && addr.port() != 0 {
        // Sockets that share a port would join those of another process, and take its datagrams.
        drop(plain(addr, false)?);
    }
    let first = plain(addr, count > 1)?;
    let mut sockets = vec![first];
    if count > 1 && group::steer(&sockets[0], count) {
        let addr = sockets[0].local_addr()?.as_socket().unwrap_or(addr);
        for _ in 1..count {
            sockets.push(plain(addr, true)?);
        }
    }
    sockets.into_iter().map(Socket::new).collect()
}

/// One socket with what the kernel can do for it.
#[derive(Debug)]
pub(crate) struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
}

/// Where a batch of datagrams of equal size goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outgoing {
    pub(crate) to: SocketAddr,
    /// The address that the peer expects it from, where we have several.
    pub(crate) from: Option<IpAddr>,
    pub(crate) segment: Option<usize>,
    pub(crate) ecn: bool,
}

/// One datagram, or several of equal size from one peer that the kernel has put together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) from: SocketAddr,
    pub(crate) to: Option<IpAddr>,
    pub(crate) len: usize,
    pub(crate) stride: usize,
    /// Congestion experienced.
    pub(crate) ce: bool,
}

/// What is read into; reused, so it stays in the processor's cache.
pub(crate) struct Inbound {
    space: BytesMut,
    metas: [RecvMeta; READS],
    arrivals: Vec<Arrival>,
}

/// Reads per system call; each may bring up to 64 datagrams.
const READS: usize = 16;
/// The largest that one read brings.
const READ_BYTES: usize = 65_535;
/// What we ask of the kernel for each direction: 320 ms of 100 Mbit/s.
const BUFFER_BYTES: usize = 4 << 20;

impl Socket {
    fn new(socket: socket2::Socket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        enlarge(&socket, &state);
        let io = UdpSocket::from_std(socket.into())?;
        Ok(Self { io, state })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// Datagrams that one send may carry.
    pub(crate) fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Reads what is there. `Pending` when there is nothing; then the task is woken.
    pub(crate) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        inbound: &mut Inbound,
    ) -> Poll<io::Result<()>> {
        loop {
            std::task::ready!(self.io.poll_recv_ready(cx))?;
            let read = self
                .io
                .try_io(Interest::READABLE, || inbound.fill(&self.io, &self.state));
            match read {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Sends. `Pending` when the kernel has no room; then the task is woken.
    ///
    /// # Errors
    /// Whatever the kernel said; the datagrams are lost as if on the way.
    pub(crate) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        outgoing: &Outgoing,
        contents: &[u8],
    ) -> Poll<io::Result<()>> {
        let transmit = quinn_udp::Transmit {
            destination: outgoing.to,
            ecn: outgoing.ecn.then_some(EcnCodepoint::Ect0),
            contents,
            segment_size: outgoing.segment,
            src_ip: outgoing.from,
        };
        loop {
            let sent = self.io.try_io(Interest::WRITABLE, || {
                self.state.try_send(UdpSockRef::from(&self.io), &transmit)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::task::ready!(self.io.poll_send_ready(cx))?;
                }
                sent => return Poll::Ready(sent),
            }
        }
    }
}

impl Inbound {
    pub(crate) fn new() -> Self {
        Self {
            space: BytesMut::zeroed(READS * READ_BYTES),
            metas: [RecvMeta::default(); READS],
            arrivals: Vec::with_capacity(READS),
        }
    }

    /// What the last read brought, with the bytes of each.
    ///
    /// Whoever keeps a datagram copies it: 1,400 bytes that are in the cache cost less than to
    /// hold on to 64 KiB for the sake of one small message.
    pub(crate) fn arrivals(&self) -> impl Iterator<Item = (Arrival, &[u8])> {
        let bytes = self.space.chunks(READ_BYTES);
        self.arrivals
            .iter()
            .zip(bytes)
            .map(|(arrival, bytes)| (*arrival, bytes.get(..arrival.len).unwrap_or_default()))
    }

    fn fill(&mut self, io: &UdpSocket, state: &UdpSocketState) -> io::Result<()> {
        self.arrivals.clear();
        let mut chunks = self.space.chunks_mut(READ_BYTES);
        let mut buffers: [IoSliceMut<'_>; READS] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        let count = state.recv(UdpSockRef::from(io), &mut buffers, &mut self.metas)?;
        self.arrivals
            .extend(self.metas.iter().take(count).map(|meta| Arrival {
                from: meta.addr,
                to: meta.dst_ip,
                len: meta.len,
                stride: meta.stride.max(1),
                ce: meta.ecn == Some(EcnCodepoint::Ce),
            }));
        Ok(())
    }
}

fn plain(addr: SocketAddr, shared: bool) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if shared {
        group::share(&socket)?;
    }
    if addr.ip().is_unspecified() && addr.is_ipv6() {
        // Of both families, whatever the system's default is; some have only one.
        let _ = socket.set_only_v6(false);
    }
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// Asks for large buffers, and says so when the kernel gives less.
fn enlarge(socket: &socket2::Socket, state: &UdpSocketState) {
    let reference = || UdpSockRef::from(socket);
    let receive = state
        .set_recv_buffer_size(reference(), BUFFER_BYTES)
        .and_then(|()| state.recv_buffer_size(reference()));
    let send = state
        .set_send_buffer_size(reference(), BUFFER_BYTES)
        .and_then(|()| state.send_buffer_size(reference()));
    let wanted = [
        ("receive", "net.core.rmem_max", receive),
        ("send", "net.core.wmem_max", send),
    ];
    for (direction, setting, got) in wanted {
        match got {
            Ok(bytes) if bytes >= BUFFER_BYTES => {}
            Ok(bytes) => tracing::warn!(
                direction,
                bytes,
                wanted = BUFFER_BYTES,
                setting,
                "socket buffer is smaller than wanted; bursts may be lost. Raise the kernel setting"
            ),
            Err(error) => tracing::debug!(direction, %error, "socket buffer was not changed"),
        }
    }
}

#[cfg(test)]
mod tests;
