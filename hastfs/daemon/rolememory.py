"""Which roles the resources of this node were given last, in a file that survives crashes (hast.conf, statedir)."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping

from hastfs.errors import SystemFailure
from hastfs.model import Role

FILE = "roles.json"
"""Below `statedir`: an object, resource name to role."""


def load(statedir: str) -> dict[str, Role]:
    """By resource; empty if nothing was ever saved. SystemFailure if that cannot be read or understood. Blocks."""
    path = os.path.join(statedir, FILE)
    try:
        with open(path, encoding="utf-8") as file:
            plain = json.load(file)
        return {str(name): Role.from_word(word) for name, word in plain.items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SystemFailure(f"Unable to read the roles of before from {path}: {error.strerror}.") from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise SystemFailure(f"{path} is damaged: remove it, and give the roles by `hastctl role`.") from error


def save(statedir: str, roles: Mapping[str, Role]) -> None:
    """Durable when it returns, and at any moment the file is the old one or the new one. SystemFailure. Blocks."""
    path = os.path.join(statedir, FILE)
    fresh = f"{path}.new"
    try:
        os.makedirs(statedir, mode=0o755, exist_ok=True)
        with open(fresh, "w", encoding="utf-8") as file:
            json.dump({name: role.word for name, role in roles.items()}, file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
        directory = os.open(statedir, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise SystemFailure(f"Unable to write the roles to {path}: {error.strerror}.") from error
