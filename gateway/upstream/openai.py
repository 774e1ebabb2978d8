"""The dialect of OpenAI's GA Realtime API: address and headers. The beta header would be refused."""

from urllib.parse import urlencode, urlsplit, urlunsplit

from gateway.core.template import LineClass
from gateway.upstream.account import Account


def address(line: LineClass) -> str:
    """Return the WebSocket address for a line class."""
    # A socket opened with `model=` becomes a conversation and refuses to transcribe only.
    transcribes = line.session_type == "transcription"
    query = {"intent": "transcription"} if transcribes else {"model": line.model}
    return urlunsplit(urlsplit(line.url)._replace(query=urlencode(query)))


def headers(account: Account) -> dict[str, str]:
    """Return the headers of the handshake. Holds the key: never log it."""
    made = {"Authorization": account.key.bearer()}
    if account.organization:
        made["OpenAI-Organization"] = account.organization
    if account.project:
        made["OpenAI-Project"] = account.project
    return made
