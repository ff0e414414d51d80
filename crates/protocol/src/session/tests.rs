//! The session's behavior as scripts: what comes in, what must come out, in virtual
//! time and against a bus made of maps. [`play`] describes the lines.

mod commands;
mod connect;
mod limits;
mod live;
mod operations;
mod play;
mod recovery;
mod refresh;
mod relay;
mod subjects;
mod subscribe;
mod time;
