"""hastd for Python programs: what `hastctl` can do, on trio (docs/client.md).

    async with hastfs.client.connect() as client:
        for resource in await client.status():
            print(resource.name, resource.details.connection)

Errors are `hastfs.errors.HastError`s. Names and their meaning stay.
"""

from hastfs.client.connection import Client, Resource, connect
from hastfs.details import Details, Histogram, Sync
from hastfs.goal import Goal
from hastfs.model import Role
from hastfs.news import Kind, News
from hastfs.protocol.answer import DaemonError, ResourcesRefused

__all__ = [
    "Client",
    "DaemonError",
    "Details",
    "Goal",
    "Histogram",
    "Kind",
    "News",
    "Resource",
    "ResourcesRefused",
    "Role",
    "Sync",
    "connect",
]
