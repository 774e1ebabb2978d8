"""The dialect of OpenAI's GA Realtime API: address and headers. The beta header would be refused."""

from typing import Final
from urllib.parse import urlencode, urlsplit, urlunsplit

from gateway.core.errors import DialError, Reason
from gateway.core.template import LineClass
from gateway.upstream.account import Account

# What the provider says of the same field elsewhere; nothing is published for the header.
SAFETY_IDENTIFIER_MAX: Final = 128


def address(line: LineClass) -> str:
    """Return the WebSocket address for a line class."""
    # A socket opened with `model=` becomes a conversation and refuses to transcribe only.
    transcribes = line.session_type == "transcription"
    query = {"intent": "transcription"} if transcribes else {"model": line.model}
    return urlunsplit(urlsplit(line.url)._replace(query=urlencode(query)))


def headers(account: Account, safety_identifier: str = "") -> dict[str, str]:
    """Return the headers of the handshake. Holds the key: never log it.

    The provider reads a safety identifier here and never again: it stays with the line. Raises `DialError`
    SAFETY_IDENTIFIER_REFUSED for one that cannot stand in a header.
    """
    made = {"Authorization": account.key.bearer()}
    if account.organization:
        made["OpenAI-Organization"] = account.organization
    if account.project:
        made["OpenAI-Project"] = account.project
    if safety_identifier:
        made["OpenAI-Safety-Identifier"] = _safe(safety_identifier)
    return made


def _safe(identifier: str) -> str:
    # A line break would forge a header; a space at an end would be lost on the way.
    printable = identifier.isascii() and identifier.isprintable() and identifier == identifier.strip()
    if not printable or len(identifier) > SAFETY_IDENTIFIER_MAX:
        text = f"a safety identifier is 1 to {SAFETY_IDENTIFIER_MAX} printable ASCII characters"
        raise DialError(Reason.SAFETY_IDENTIFIER_REFUSED, text)
    return identifier
