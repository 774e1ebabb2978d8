"""docs/reference/api/*.md, made from the protos with their comments, and from who serves what."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)

from gateway.rpc.auth import needed_right
from gateway.rpc.services import SERVED
from tests.support.reference_markdown import code, page, table

PROTO: Final = Path(__file__).parents[2] / "proto"
PACKAGE: Final = "trunkline.v1"
# The steps of a location: which field of the descriptor it is in.
MESSAGES, ENUMS, SERVICES, SYNTAX = 4, 5, 6, 12
# In a message its fields, in an enum its values, in a service its methods.
BELOW: Final = 2

Comments = Mapping[tuple[int, ...], str]


@cache
def contract() -> tuple[FileDescriptorProto, ...]:
    """Return our files with their comments."""
    names = sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("trunkline/v1/*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "contract.binpb"
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"-I{files('grpc_tools') / '_proto'}"]
        flags = ["--include_source_info", f"--descriptor_set_out={found}"]
        subprocess.run([*command, *flags, *names], check=True, timeout=120)
        made = FileDescriptorSet.FromString(found.read_bytes()).file
        return tuple(sorted(made, key=lambda file: file.name))


def comments(file: FileDescriptorProto) -> Comments:
    """Return the comment above each thing, by the thing's path in the descriptor."""
    return {tuple(each.path): each.leading_comments for each in file.source_code_info.location}


def pages() -> dict[str, str]:
    """Return each page's text by its name below docs/reference."""
    return {"api/index.md": _index(), **{f"api/{_stem(file)}.md": _page(file) for file in contract()}}


def _stem(file: FileDescriptorProto) -> str:
    return Path(file.name).stem


# The list of all methods.


def _index() -> str:
    use = (
        "With these pages you can look up every service, message and field of the contract. They hold the comments "
        "of `proto/trunkline/v1`, which any gRPC toolchain can compile."
    )
    methods = [
        (
            f"[{service.name}.{method.name}]({_stem(file)}.md#{method.name.lower()})",
            _kind(method),
            code(_right(service.name, method)),
            "yes" if _is_served(service.name, method) else "not yet",
        )
        for file in contract()
        for service in file.service
        for method in service.method
    ]
    about = [(f"[{_stem(file)}]({_stem(file)}.md)", comments(file)[SYNTAX,]) for file in contract()]
    parts = ("## Methods", table(("Method", "Kind", "Right", "Served"), methods))
    return page("API", use, "`proto/trunkline/v1/`", *parts, "## Files", table(("File", "What is in it"), about))


def _kind(method: MethodDescriptorProto) -> str:
    if method.client_streaming:
        return "stream in both directions" if method.server_streaming else "stream to the gateway"
    return "stream to the caller" if method.server_streaming else "one answer"


def _right(service: str, method: MethodDescriptorProto) -> str:
    right = needed_right(_path(service, method))
    assert right is not None, f"nobody may call {_path(service, method)}"
    return right.value


def _is_served(service: str, method: MethodDescriptorProto) -> bool:
    return _path(service, method) in SERVED


def _path(service: str, method: MethodDescriptorProto) -> str:
    return f"/{PACKAGE}.{service}/{method.name}"


# One file.


def _page(file: FileDescriptorProto) -> str:
    here, said = _stem(file), comments(file)
    use = f"With this page you can look up what stands in `{file.name}`. {_prose(said[SYNTAX,])}"
    parts = [_service(file, number) for number in range(len(file.service))]
    parts += [_message(each, said, (MESSAGES, number), here) for number, each in enumerate(file.message_type)]
    parts += [_enum(each, said, (ENUMS, number)) for number, each in enumerate(file.enum_type)]
    return page(f"API: {here}", use, f"`proto/{file.name}`", *parts)


def _service(file: FileDescriptorProto, number: int) -> str:
    service, here, said = file.service[number], _stem(file), comments(file)
    parts = [f"## {service.name}", _prose(said[SERVICES, number])]
    for index, method in enumerate(service.method):
        ends = " → ".join(
            f"{'stream of ' if is_stream else ''}{_linked(name, here)}"
            for name, is_stream in (
                (method.input_type, method.client_streaming),
                (method.output_type, method.server_streaming),
            )
        )
        parts += [
            f"### {method.name}",
            _prose(said[SERVICES, number, BELOW, index]),
            f"{ends}. It needs the right `{_right(service.name, method)}`.",
        ]
        if not _is_served(service.name, method):
            parts.append("**Not served yet:** the answer is `NOT_IMPLEMENTED_YET`.")
    return "\n\n".join(parts)


def _message(message: DescriptorProto, said: Comments, path: tuple[int, ...], here: str) -> str:
    rows = [
        (code(field.name), _type(field, message, here), _prose(said.get((*path, BELOW, index), "")))
        for index, field in enumerate(message.field)
    ]
    fields = table(("Field", "Type", "Meaning"), rows) if rows else "It has no fields."
    return f"## {message.name}\n\n{_prose(said[path])}\n\n{fields}"


def _type(field: FieldDescriptorProto, message: DescriptorProto, here: str) -> str:
    entries = {each.name: each for each in message.nested_type if each.options.map_entry}
    entry = entries.get(field.type_name.rpartition(".")[2])
    if entry is not None:
        key, value = (_one_type(each, here) for each in entry.field)
        return f"map of {key} to {value}"
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"list of {_one_type(field, here)}"
    if field.proto3_optional:
        return f"{_one_type(field, here)}, or absent"
    if field.HasField("oneof_index"):
        return f"{_one_type(field, here)}; one of `{message.oneof_decl[field.oneof_index].name}`"
    return _one_type(field, here)


def _one_type(field: FieldDescriptorProto, here: str) -> str:
    if field.type_name:
        return _linked(field.type_name, here)
    return code(FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower())


def _linked(type_name: str, here: str) -> str:
    name = type_name.rpartition(".")[2]
    there = next(_stem(file) for file in contract() if name in _names(file))
    return f"[{name}]({'' if there == here else f'{there}.md'}#{name.lower()})"


def _names(file: FileDescriptorProto) -> set[str]:
    return {each.name for each in file.message_type} | {each.name for each in file.enum_type}


def _enum(enum: EnumDescriptorProto, said: Comments, path: tuple[int, ...]) -> str:
    rows = [(code(each.name), _prose(said.get((*path, BELOW, index), ""))) for index, each in enumerate(enum.value)]
    return f"## {enum.name}\n\n{_prose(said[path])}\n\n{table(('Value', 'Meaning'), rows)}"


# Comments.


def _prose(comment: str) -> str:
    """Return a comment as Markdown: what is indented by two and more is shown as it stands."""
    return "\n\n".join(_paragraphs(comment))


def _paragraphs(comment: str) -> Iterator[str]:
    lines = [line.removeprefix(" ").rstrip() for line in comment.splitlines()]
    for block in re.split(r"\n(?:[ \t]*\n)+", "\n".join(lines).strip("\n")):
        if block.startswith("  "):
            yield f"```text\n{_dedented(block)}\n```"
        elif block.startswith("# "):
            yield f"**{block[2:]}**"
        else:
            yield block


def _dedented(block: str) -> str:
    return "\n".join(line.removeprefix("  ") for line in block.splitlines())
