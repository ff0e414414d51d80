//! Several sockets on one port, each the home of some connections.
//!
//! All datagrams of a connection belong to one task. The kernel picks the socket with a small
//! program that looks at the last byte of the GUUID, which the client drew at random: so a
//! connection stays where it is even when its client's address changes. Where the kernel picks
//! otherwise (it puts together datagrams of different connections of one peer, or there is no
//! such program) the task that gets a datagram hands it on, by the same rule.

use std::io;

/// Offset of the last byte of the GUUID within a datagram.
const GUUID_LAST: usize = 21;

/// Which of `lanes` a datagram belongs to; the first if it is too short to say.
pub(crate) fn lane_of(datagram: &[u8], lanes: usize) -> usize {
    let byte = datagram.get(GUUID_LAST).copied().unwrap_or_default();
    usize::from(byte) % lanes.max(1)
}

/// Lets several sockets have one address.
pub(super) fn share(socket: &socket2::Socket) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    socket.set_reuse_port(true)?;
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
    Ok(())
}

/// Has the kernel spread datagrams over `lanes` sockets; `false` if it cannot.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no safe wrapper of this socket option exists")]
pub(super) fn steer(socket: &socket2::Socket, lanes: usize) -> bool {
    use std::os::fd::AsRawFd;

    let Ok(lanes) = u32::try_from(lanes) else {
        return false;
    };
    let step = |code: u32, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    // Offsets count from the UDP payload. A datagram that is too short ends the program with 0.
    let mut program = [
        step(
            libc::BPF_LD | libc::BPF_B | libc::BPF_ABS,
            GUUID_LAST as u32,
        ),
        step(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, lanes),
        step(libc::BPF_RET | BPF_A, 0),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: `filter` and the program it points to live until the call returns, the kernel
    // copies both, and the length given is that of `sock_fprog`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            std::ptr::from_ref(&filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result != 0 {
        let error = io::Error::last_os_error();
        tracing::info!(%error, "datagrams are not spread over sockets; one socket serves all");
    }
    result == 0
}

/// Has the kernel spread datagrams over `lanes` sockets; `false` if it cannot.
#[cfg(not(target_os = "linux"))]
pub(super) fn steer(_socket: &socket2::Socket, _lanes: usize) -> bool {
    false
}

/// "What the accumulator holds", of classic BPF's return instruction.
#[cfg(target_os = "linux")]
const BPF_A: u32 = 0x10;
