"""Reads every golden message with the generated types; prints the names of those that held.

    python3 golden.py <folder of golden files>
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE / "generated"))

from google.protobuf import json_format  # noqa: E402

from xy.flags.v1 import feature_flags_pb2  # noqa: E402
from xy.md.v1 import snapshot_pb2, tick_pb2  # noqa: E402
from xy.session.v1 import session_pb2  # noqa: E402

CONTRACTS = [
    feature_flags_pb2.FeatureFlags,
    session_pb2.Session,
    snapshot_pb2.Snapshot,
    snapshot_pb2.SnapshotBatch,
    tick_pb2.Tick,
    tick_pb2.TickBatch,
]


def main(folder: pathlib.Path) -> None:
    types = {contract.DESCRIPTOR.full_name: contract for contract in CONTRACTS}
    for file in sorted(folder.glob("*.binpb")):
        name = file.name.removesuffix(".binpb")
        read(types[name.removesuffix(".newer")], folder, name)
        print(name)

    batch = tick_pb2.TickBatch.FromString((folder / "xy.md.v1.TickBatch.binpb").read_bytes())
    same("seq", batch.seq, 9_007_199_254_740_993)
    same("price", {tick.symbol: tick.price for tick in batch.ticks}["S000"], 101.25)


def read(contract, folder: pathlib.Path, name: str) -> None:
    """Compares one golden message with its JSON form."""
    stored = (folder / f"{name}.binpb").read_bytes()
    message = contract.FromString(stored)
    expected = json.loads((folder / f"{name.removesuffix('.newer')}.json").read_text("utf-8"))
    same(name, json_format.MessageToDict(message), expected)
    written = message.SerializeToString()
    same(f"{name} written again", contract.FromString(written), message)
    # Fields that a newer contract added are kept.
    if name.endswith(".newer"):
        same(f"{name} written again", written, stored)


def same(what: str, found, expected) -> None:
    if found != expected:
        sys.exit(f"{what}: read {found!r}, expected {expected!r}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("the folder of the golden files is missing")
    main(pathlib.Path(sys.argv[1]))
