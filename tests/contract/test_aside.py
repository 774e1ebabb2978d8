"""The request for a summary, and what comes of it, on a wire that checks every event."""

import asyncio
import json

from websockets.asyncio.client import connect

from gateway.core.aside import MARK, Aside
from gateway.core.realtime import decode
from gateway.simulator import Simulator, SimulatorOptions
from tests.support.ports import free_port

# A caller may use the same mark.
LATER = {"type": "response.create", "response": {"output_modalities": ["text"], "metadata": {MARK: "mine"}}}


async def test_all_of_a_summary_is_taken_and_nothing_of_the_answer_behind_it() -> None:
    port, aside = free_port(), Aside("a name")
    url = f"ws://127.0.0.1:{port}/v1/realtime?model=gpt-realtime"
    async with (
        Simulator(SimulatorOptions(port=port)),
        connect(url, additional_headers={"Authorization": "Bearer key"}) as line,
        asyncio.timeout(10.0),
    ):
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "A table for two"}]}
        await line.send(json.dumps({"type": "conversation.item.create", "item": item}))
        await line.send(json.dumps(aside.request()))
        passed = list[str]()
        while aside.text is None:
            frame = await line.recv(decode=False)
            event = decode(frame)
            if not (aside.takes_raw(frame) if event is None else aside.takes(event)):
                passed.append(json.loads(frame)["type"])
        assert aside.text
        assert aside.usage.output_tokens > 0
        assert [kind for kind in passed if kind.startswith(("response.", "error"))] == []
        await line.send(json.dumps(LATER))
        while "response.done" not in passed:
            frame = await line.recv(decode=False)
            event = decode(frame)
            assert not (aside.takes_raw(frame) if event is None else aside.takes(event)), frame
            passed.append(json.loads(frame)["type"])
