"""hastd for Python programs: what `hastctl` can do, on trio.

    async with hastfs.client.connect() as client:
        for resource in await client.status():
            print(resource.name, resource.details.connection)

Errors are `hastfs.errors.HastError`s. Names and their meaning stay (docs/client.md).
"""

from hastfs.client.connection import Client, Resource, connect

__all__ = ["Client", "Resource", "connect"]
