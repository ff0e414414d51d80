//! A network namespace with one TUN device: what is sent to the other end comes out of the
//! device's descriptor as an IP packet.
//!
//! The namespace has no name: it lives as long as this value and the threads and sockets in
//! it, so nothing is left behind however the program ends.
#![expect(
    unsafe_code,
    reason = "devices are made and namespaces are left by system calls without a safe wrapper"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::Context as _;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// A namespace of its own.
#[derive(Debug)]
pub(super) struct Namespace {
    handle: OwnedFd,
}

impl Namespace {
    /// Makes a namespace whose device has this address in a network of 256, and the device's
    /// descriptor, which does not block.
    ///
    /// Fails without the right to (root has it) and where there is no `/dev/net/tun`.
    pub(super) fn new(address: Ipv4Addr) -> anyhow::Result<(Self, File)> {
        // A thread that has moved away can't be used for anything else.
        let made = std::thread::spawn(move || make(address)).join();
        made.map_err(|_| anyhow::anyhow!("the thread that makes a namespace panicked"))?
    }

    /// Moves the calling thread into the namespace, with the sockets and threads that it makes.
    pub(super) fn enter(&self) -> anyhow::Result<()> {
        move_into_link_name_space(self.handle.as_fd(), Some(LinkNameSpaceType::Network))
            .context("thread did not move into the network namespace")
    }
}

/// Gives the calling thread the processor as soon as it has something to do. Without the right
/// to, it takes its turn like the others.
pub(super) fn run_before_others() {
    let parameter = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameter lives through the call; 0 is the calling thread.
    let _ = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) };
}

fn make(address: Ipv4Addr) -> anyhow::Result<(Namespace, File)> {
    // SAFETY: only this thread's view of the network changes; it shares no other state.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
        .context("no network namespace (needs root)")?;
    let handle = File::open("/proc/thread-self/ns/net").context("no handle of the namespace")?;
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .context("no /dev/net/tun")?;
    let mut request = request_for(DEVICE);
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    control(&device, libc::TUNSETIFF as libc::Ioctl, &mut request).context("no TUN device")?;
    configure(address).context("TUN device was not configured")?;
    let namespace = Namespace {
        handle: handle.into(),
    };
    Ok((namespace, device))
}

/// Gives the device its address, a queue that never is the bottleneck, and switches it on.
fn configure(address: Ipv4Addr) -> io::Result<()> {
    // Any socket will do.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let mut request = request_for(DEVICE);
    request.ifr_ifru.ifru_addr = sockaddr(address);
    control(&socket, libc::SIOCSIFADDR, &mut request)?;
    request.ifr_ifru.ifru_netmask = sockaddr(Ipv4Addr::new(255, 255, 255, 0));
    control(&socket, libc::SIOCSIFNETMASK, &mut request)?;
    request.ifr_ifru.ifru_mtu = MTU;
    control(&socket, libc::SIOCSIFMTU, &mut request)?;
    request.ifr_ifru.ifru_metric = DEVICE_QUEUE;
    control(&socket, libc::SIOCSIFTXQLEN, &mut request)?;
    for device in [DEVICE, "lo"] {
        let mut request = request_for(device);
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        control(&socket, libc::SIOCSIFFLAGS, &mut request)?;
    }
    Ok(())
}

fn request_for(device: &str) -> libc::ifreq {
    // SAFETY: all zeros is a valid request of this plain C structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, &from) in request.ifr_name.iter_mut().zip(device.as_bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn sockaddr(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    // Port, then address.
    for (to, from) in data[2..6].iter_mut().zip(address.octets()) {
        *to = from as libc::c_char;
    }
    libc::sockaddr {
        sa_family: libc::AF_INET as libc::sa_family_t,
        sa_data: data,
    }
}

fn control(
    file: &impl std::os::fd::AsFd,
    operation: libc::Ioctl,
    request: &mut libc::ifreq,
) -> io::Result<()> {
    // SAFETY: every operation used here takes an `ifreq`, which lives through the call.
    match unsafe { libc::ioctl(file.as_fd().as_raw_fd(), operation, request) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

const DEVICE: &str = "link";

const MTU: libc::c_int = 1500;

/// Packets between the kernel and the relay, which takes them at once.
const DEVICE_QUEUE: libc::c_int = 10_000;
