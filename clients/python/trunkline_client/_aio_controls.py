"""What a session can be asked: one method for each kind of control."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from trunkline.v1.control_pb2 import Control

from trunkline_client import _requests
from trunkline_client.inputs import SessionOverrides, Speaker


class AsyncControls(ABC):
    """The controls of a session. Each returns its number."""

    @abstractmethod
    async def _send_control(self, control: Control) -> int: ...

    async def send_text(self, text: str, *, role: Speaker = "user", item_id: str = "") -> int:
        """Add words to the conversation; asks for no answer. `item_id` names them; empty = the gateway does."""
        return await self._send_control(_requests.text(text, role, item_id))

    async def commit(self) -> int:
        """End the user's turn, where turn detection is off."""
        return await self._send_control(_requests.commit())

    async def clear(self) -> int:
        """Forget the audio that was not committed."""
        return await self._send_control(_requests.clear())

    async def create_response(
        self,
        *,
        instructions: str | None = None,
        text_only: bool = False,
        metadata: Mapping[str, str] | None = None,
        out_of_band: bool = False,
    ) -> int:
        """Ask for an answer. `metadata` (up to 16 marks) comes back with it; `out_of_band` leaves no trace of it."""
        control = _requests.create_response(instructions, metadata, text_only=text_only, out_of_band=out_of_band)
        return await self._send_control(control)

    async def cancel(self, response_id: str = "") -> int:
        """Stop an answer; empty = the one under way."""
        return await self._send_control(_requests.cancel(response_id))

    async def truncate(self, item_id: str, audio_end_ms: int, content_index: int = 0) -> int:
        """Cut an answer at what was heard, in milliseconds of its audio: after `Interrupted`, what was played."""
        return await self._send_control(_requests.truncate(item_id, audio_end_ms, content_index))

    async def send_tool_result(self, call_id: str, output: str, *, create_response: bool = True) -> int:
        """Answer one `ToolCall` with text, usually JSON; and ask for an answer, unless told not to."""
        control = _requests.tool_result(call_id, output, create_response=create_response)
        return await self._send_control(control)

    async def update(self, overrides: SessionOverrides) -> int:
        """Change the configuration; only fields that are present change. Then comes `SessionUpdated`."""
        return await self._send_control(_requests.update(overrides))

    async def send_raw(self, event: str | Mapping[str, object]) -> int:
        """Send one of the provider's client events, as JSON text or as a mapping with a `type`."""
        return await self._send_control(_requests.raw(event))
