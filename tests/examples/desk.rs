//! The service behind the gateway in tests of gRPC and Quantum, as a process; see
//! `e2e::desk::run` for its arguments.

fn main() -> anyhow::Result<()> {
    e2e::desk::run(std::env::args().skip(1))
}
