//! What was acknowledged, on a file of its own that is synced.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use anyhow::{Context, ensure};

use super::message::{Hash, Name};
use super::scene::Scene;

/// An acknowledged message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) name: Name,
    pub(super) hash: Hash,
}

/// Writes entries down; one line each: number, client, message, SHA-256.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    entries: SyncSender<Entry>,
    writer: JoinHandle<anyhow::Result<()>>,
}

impl Ledger {
    /// Begins an empty ledger; the file must not exist.
    pub(super) fn start(path: &Path, scene: Arc<Scene>) -> anyhow::Result<Self> {
        let file = File::create_new(path)
            .with_context(|| format!("ledger {path:?} could not be begun"))?;
        let (entries, queue) = sync_channel(1024);
        let writer = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || write(file, &queue, &scene))?;
        Ok(Self {
            path: path.to_owned(),
            entries,
            writer,
        })
    }

    /// Where entries go. The ledger ends when the last of these is gone.
    pub(super) fn entries(&self) -> SyncSender<Entry> {
        self.entries.clone()
    }

    /// Reads what is on the file.
    pub(super) fn finish(self) -> anyhow::Result<Vec<Entry>> {
        drop(self.entries);
        let written = self.writer.join();
        written.map_err(|_| anyhow::anyhow!("ledger has panicked"))??;
        let text = std::fs::read_to_string(&self.path)?;
        text.lines().enumerate().map(parse).collect()
    }
}

fn write(file: File, queue: &Receiver<Entry>, scene: &Scene) -> anyhow::Result<()> {
    let mut file = BufWriter::new(file);
    let mut next = 0u64;
    while let Ok(first) = queue.recv() {
        let before = next;
        for entry in std::iter::once(first).chain(queue.try_iter()) {
            let (client, id) = (entry.name.client_id(), entry.name.message_id());
            write!(file, "{next} {client} {id} ")?;
            for byte in entry.hash {
                write!(file, "{byte:02x}")?;
            }
            file.write_all(b"\n")?;
            next += 1;
            if next - before >= TOGETHER_MAX {
                break;
            }
        }
        file.flush()?;
        file.get_ref().sync_data()?;
        scene.add_acked(next - before);
    }
    Ok(())
}

fn parse((index, line): (usize, &str)) -> anyhow::Result<Entry> {
    let wrong = || format!("line {} of the ledger is {line:?}", index + 1);
    let mut words = line.split(' ');
    let mut word = || words.next().with_context(wrong);
    ensure!(word()?.parse::<usize>()? == index, wrong());
    let name = Name::parse(word()?, word()?)?;
    let digits = word()?;
    ensure!(digits.len() == 64 && digits.is_ascii(), wrong());
    let mut hash = [0; 32];
    for (place, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * place..2 * place + 2], 16).with_context(wrong)?;
    }
    Ok(Entry { name, hash })
}

/// Most entries per sync, so that the count goes on.
const TOGETHER_MAX: u64 = 1024;
