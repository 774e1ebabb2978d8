"""A session of whatever client is found first; for each line that comes in it has a turn, and tells what came of it.

python tests/support/versions_child.py 127.0.0.1:21000

Nothing but the client's public names is used: an older one runs it, too.
"""

import asyncio
import json
import sys
from dataclasses import asdict, dataclass, field

import trunkline_client
from trunkline.v1 import control_pb2
from trunkline_client import AsyncClient
from trunkline_client.events import Event, ItemDone, ResponseDone, Resumed, StateChanged

TEXT = control_pb2.SessionOverrides(output_modality=control_pb2.OUTPUT_MODALITY_TEXT)
TURN_SECONDS = 25.0


@dataclass
class Told:
    """What the session has come to."""

    client: str
    owner: str
    session_id: str
    # Every item that was told as done, in order: its id, its role, its words.
    items: list[tuple[str, str, str]] = field(default_factory=list)
    responses: list[str] = field(default_factory=list)
    unrestored: list[str] = field(default_factory=list)
    resumed: int = 0
    gaps: int = 0

    def tell(self) -> None:
        print(json.dumps(asdict(self)), flush=True)

    def note(self, event: Event) -> None:
        match event:
            case ItemDone():
                self.items.append((event.item_id, event.role, event.text))
            case ResponseDone():
                self.responses.append(event.response_id)
            case StateChanged():
                self.unrestored += event.unrestored_items
            case Resumed():
                self.resumed += 1
                self.gaps += event.HasField("gap")
                self.unrestored += event.unrestored_items
                self.owner = event.owner_address


async def main(address: str) -> None:
    async with AsyncClient(address) as client, client.open(resumable=True, overrides=TEXT) as session:
        told = Told(str(trunkline_client.__file__), session.opened.owner_address, session.id)
        told.tell()
        while words := (await asyncio.to_thread(sys.stdin.readline)).strip():
            await session.send_text(words)
            await session.create_response()
            async with asyncio.timeout(TURN_SECONDS):
                async for event in session:
                    told.note(event)
                    if isinstance(event, ResponseDone):
                        break
            told.tell()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
