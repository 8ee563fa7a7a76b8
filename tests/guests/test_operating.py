"""The commands of docs/operating.md, each section after what makes it necessary."""

from __future__ import annotations

import pytest

from tests.guests.reader import PROJECT, Reader

pytestmark = pytest.mark.kernel

A_PAIR = """\
    here# examples/machines.sh on alpha beta

`/etc/hast.conf`:

    resource shared {
        local /var/lib/hast/shared
        on alpha { remote tcp4://192.0.2.2 }
        on beta { remote tcp4://192.0.2.1 }
    }

Then:

    both#  mkdir -p /var/lib/hast && hastctl create -m 64M shared && hastd
    beta#  hastctl role secondary shared
    alpha# hastctl role --wait primary shared && mkfs.ext4 -q /dev/hast/shared && mount /dev/hast/shared /mnt
    alpha# head -c 8M /dev/urandom >/mnt/data && sha256sum /mnt/data >/mnt/sum && sync
"""

BOTH_WRITE = """\
    beta#  hastctl role -f primary shared && mount /dev/hast/shared /mnt && echo beta >/mnt/who && umount /mnt
    alpha# echo alpha >/mnt/who && sync
    beta#  hastctl role secondary shared
    alpha# timeout 30 bash -c 'until hastctl status --table | grep -q split-brain; do sleep 0.1; done'
"""

AN_EMPTY_DISK = """\
    beta#  hastctl role init shared && truncate -s 0 /var/lib/hast/shared && truncate -s 64M /var/lib/hast/shared
"""

ANOTHER_RESOURCE = """\
`/etc/hast.conf`:

    resource shared {
        local /var/lib/hast/shared
        on alpha { remote tcp4://192.0.2.2 }
        on beta { remote tcp4://192.0.2.1 }
    }
    resource shared-new {
        local /var/lib/hast/shared-new
        on alpha { remote tcp4://192.0.2.2 }
        on beta { remote tcp4://192.0.2.1 }
    }
"""

ALL_IS_THERE = """\
    alpha# sha256sum --quiet -c /mnt/sum && cat /mnt/who
    alpha
    beta#  hastctl status | awk '$1 == "shared-new" { print $2, $3 }'
    complete secondary
    alpha# df --output=size -m /mnt
    1M-blocks
    1...
"""


def test_the_commands_of_operating_work_as_it_says(reader: Reader) -> None:
    page = (PROJECT / "docs" / "operating.md").read_text().replace("-m 20G", "-m 128M")  # machines are made of memory

    def section(title: str) -> str:
        return page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]

    reader.follow(A_PAIR, "a pair")
    for cause, title in ((BOTH_WRITE, "Split brain"), (AN_EMPTY_DISK, "A new disk"), (ANOTHER_RESOURCE, "More room")):
        reader.follow(cause, f"before {title}")
        reader.follow(section(title), title)
    reader.follow(ALL_IS_THERE, "the end")
    print(*(f"{seconds:.1f} s: {what}" for seconds, what in sorted(reader.slowest, reverse=True)[:8]), sep="\n")
