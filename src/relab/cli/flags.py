"""`lab flags`: set flags, show their versions, and evaluate them for a context (the attributes of a request)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relab.cli.context import open_services
from relab.cli.output import JsonOption, plain, plain_lines, print_json, print_table
from relab.core.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from relab.flags.models import FlagVersion

app = typer.Typer(help="Versioned flags: list, show, set, compare, roll back, archive, evaluate.", no_args_is_help=True)

Key = Annotated[str, typer.Argument(help="The flag's key.")]
Note = Annotated[str, typer.Option(help="Reason for the change, for the history.")]
Author = Annotated[str, typer.Option(help="Author of the change, for the history.")]
IfVersion = Annotated[
    int | None, typer.Option(min=1, help="Fail if the flag is at another version. Default: accept any version.")
]


@app.command("list")
def list_flags(
    archived: Annotated[bool, typer.Option("--archived", help="Include archived flags.")] = False,
    after: Annotated[str | None, typer.Option(help="Only keys after this one.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    as_json: JsonOption = False,
) -> None:
    """List the current version of each flag, ordered by key."""
    from relab.core.clock import format_time

    with open_services() as services:
        page = services.flags.list_flags(with_archived=archived, after=after, limit=limit)
    if as_json:
        print_json("flags list", **page.model_dump(mode="json"))
        return
    rows = (
        (
            flag.key,
            flag.version,
            "archived" if flag.is_archived else "enabled" if flag.is_enabled else "disabled",
            flag.value_type,
            flag.default_variant,
            format_time(flag.updated_at),
            flag.description,
        )
        for flag in page.items
    )
    columns = ("flag", "version", "state", "type", "default", "changed", "description")
    print_table("Flags", columns, rows, empty="No flags found. To create one: lab flags set KEY FILE")
    if page.next_after is not None:
        print(f"More flags: --after {plain(page.next_after)}")


@app.command()
def show(
    key: Key,
    version: Annotated[int | None, typer.Option(min=1, help="Version number; default: the current version.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a version of a flag, with its content in the format of `lab flags set`."""
    from json import dumps

    from relab.core.clock import format_time

    with open_services() as services:
        flag = services.flags.get(key) if version is None else services.flags.get_version(key, version)
    if as_json:
        print_json("flags show", flag=flag.model_dump(mode="json"))
        return
    print(f"{plain(flag.key)} version {flag.version}, {_flag_line(flag)} by {plain(flag.author)}, ", end="")
    print(f"{format_time(flag.created_at)}{': ' + plain(flag.note) if flag.note else ''}")
    print(plain_lines(dumps(flag.content.model_dump(mode="json"), indent=2, ensure_ascii=False)))


@app.command("set")
def set_flag(
    key: Key,
    file: Annotated[str, typer.Argument(help="The content as JSON: a file, or - for stdin.")],
    note: Note = "",
    author: Author = "cli",
    if_version: IfVersion = None,
    as_json: JsonOption = False,
) -> None:
    """Set the content of a flag. A new flag is created; an existing one gets a new version."""
    from relab.core.json import parse_json
    from relab.flags.models import FlagContent
    from relab.flags.service import read_as

    content = read_as(FlagContent, parse_json(_read(file), "Standard input" if file == "-" else file))
    with open_services() as services:
        try:
            expected = {services.flags.get(key).version} if if_version is None else {if_version}
        except NotFoundError:
            flag = services.flags.create(key, content, author=author, note=note)
        else:
            flag = services.flags.update(key, content, expected=expected, author=author, note=note)
    _print_change("flags set", flag, as_json=as_json)


@app.command()
def history(
    key: Key,
    before: Annotated[int | None, typer.Option(min=1, help="Only versions below this one.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    as_json: JsonOption = False,
) -> None:
    """List the versions of a flag, newest first."""
    from relab.core.clock import format_time

    with open_services() as services:
        page = services.flags.history(key, before=before, limit=limit)
    if as_json:
        print_json("flags history", **page.model_dump(mode="json"))
        return
    rows = (
        (
            item.version,
            _flag_line(item),
            item.author,
            format_time(item.created_at),
            item.digest.removeprefix("sha256:")[:12],
            item.note,
        )
        for item in page.items
    )
    print_table(f"Versions of {key}", ("version", "state and default", "by", "time", "digest", "note"), rows)
    if page.next_before is not None:
        print(f"More versions: --before {page.next_before}")


@app.command()
def diff(
    key: Key,
    from_version: Annotated[int, typer.Argument(min=1, help="First version.")],
    to_version: Annotated[int, typer.Argument(min=1, help="Second version.")],
    as_json: JsonOption = False,
) -> None:
    """Print the differences between the contents of two versions of a flag."""
    from relab.core.json import canonical_json

    with open_services() as services:
        found = services.flags.diff(key, from_version, to_version)
    if as_json:
        print_json("flags diff", **found.model_dump(mode="json"))
        return
    rows = (
        (
            item.path,
            None if item.change == "added" else canonical_json(item.before),
            None if item.change == "removed" else canonical_json(item.after),
        )
        for item in found.differences
    )
    columns = ("field", f"version {from_version}", f"version {to_version}")
    print_table(f"{key}: {len(found.differences)} differences", columns, rows)


@app.command()
def rollback(
    key: Key,
    to: Annotated[int, typer.Option(min=1, help="The version whose content is restored.")],
    note: Note = "",
    author: Author = "cli",
    if_version: IfVersion = None,
    as_json: JsonOption = False,
) -> None:
    """Add a version of a flag with the content of an earlier version. An archived flag is put into use again."""
    with open_services() as services:
        expected = None if if_version is None else {if_version}
        flag = services.flags.rollback(key, to, expected=expected, author=author, note=note)
    _print_change("flags rollback", flag, as_json=as_json)


@app.command()
def archive(
    key: Key, note: Note = "", author: Author = "cli", if_version: IfVersion = None, as_json: JsonOption = False
) -> None:
    """Archive a flag: it can no longer be evaluated, but its history stays."""
    with open_services() as services:
        expected = None if if_version is None else {if_version}
        flag = services.flags.archive(key, expected=expected, author=author, note=note)
    _print_change("flags archive", flag, as_json=as_json)


@app.command()
def evaluate(
    key: Key,
    targeting_key: Annotated[str | None, typer.Option(help="The `targetingKey` of the context.")] = None,
    context: Annotated[str, typer.Option(help="The context's attributes, as a JSON object.")] = "{}",
    as_json: JsonOption = False,
) -> None:
    """Print the value of a flag for a context, and the reason."""
    from relab.core.json import canonical_json, parse_json
    from relab.flags.service import read_context

    attributes = dict(read_context(parse_json(context.encode(errors="surrogateescape"), "The value of --context")))
    if targeting_key is not None:
        attributes["targetingKey"] = targeting_key
    with open_services() as services:
        found = services.flags.evaluate(key, attributes)
    if as_json:
        print_json("flags evaluate", **found.model_dump(mode="json"))
    else:
        print(
            f"{plain(canonical_json(found.value))}  ({plain(found.variant)}, {found.reason}, version {found.version})"
        )


def _flag_line(flag: Any) -> str:
    restored = f" to version {flag.restored_version}" if flag.restored_version is not None else ""
    return f"{flag.action.replace('_', ' ')}{restored}"


def _print_change(command: str, flag: FlagVersion, *, as_json: bool) -> None:
    if as_json:
        print_json(command, flag=flag.model_dump(mode="json"))
    else:
        print(f"{plain(flag.key)} is at version {flag.version} ({_flag_line(flag)}).")


def _read(file: str) -> bytes:
    """Return the bytes of a file, or of standard input for a hyphen.

    Raises:
        InvalidInputError: the file cannot be read.
    """
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InvalidInputError(f"The file {file} cannot be read: {error.strerror}.") from error
