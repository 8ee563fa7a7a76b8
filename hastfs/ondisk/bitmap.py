"""A bitmap that costs memory only where bits are set, in the pages in which it is written to disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

PAGE_SIZE = 4096
"""Bytes of one page: the unit in which a changed map is written."""

PAGE_BITS = PAGE_SIZE * 8


class Bitmap:
    """`nbits` bits, all clear at first. Bit n is bit n % 8 (least significant first) of byte n // 8, as on disk."""

    def __init__(self, nbits: int) -> None:
        self.nbits = nbits
        self._pages: dict[int, bytearray] = {}
        self._counts: dict[int, int] = {}  # of the bits that are set in a page, never 0

    def __contains__(self, bit: int) -> bool:
        page = self._pages.get(bit // PAGE_BITS)
        return page is not None and bool(page[bit % PAGE_BITS >> 3] & 1 << (bit & 7))

    def __bool__(self) -> bool:
        return bool(self._pages)

    def __len__(self) -> int:
        return sum(self._counts.values())

    def __iter__(self) -> Iterator[int]:
        bit = self.next_set(0)
        while bit is not None:
            yield bit
            bit = self.next_set(bit + 1)

    def add(self, bit: int) -> None:
        """Sets one bit."""
        if not 0 <= bit < self.nbits:
            raise IndexError(f"bit {bit} of a map of {self.nbits}")
        number = bit // PAGE_BITS
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = bytearray(PAGE_SIZE)
            self._counts[number] = 0
        at, mask = bit % PAGE_BITS >> 3, 1 << (bit & 7)
        if not page[at] & mask:
            page[at] |= mask
            self._counts[number] += 1

    def add_range(self, bits: range) -> Iterable[int]:
        """Sets the bits, neighbours all of them. Returns those that were clear."""
        fresh: list[int] = []
        for number in range(bits.start // PAGE_BITS, (bits.stop - 1) // PAGE_BITS + 1):
            base = number * PAGE_BITS
            part = range(max(bits.start, base), min(bits.stop, base + PAGE_BITS))
            page = self._pages.get(number)
            if page is None:
                self.add(part.start)
                page = self._pages[number]
                fresh.append(part.start)
            first, last = part.start - base >> 3, part.stop - base + 7 >> 3
            mask = (1 << len(part)) - 1 << (part.start & 7)
            old = int.from_bytes(page[first:last], "little")
            page[first:last] = (old | mask).to_bytes(last - first, "little")
            self._counts[number] += (mask & ~old).bit_count()
            fresh += part if not old & mask else [bit for bit in part if not old >> bit - base - 8 * first & 1]
        return fresh

    def discard(self, bit: int) -> None:
        """Clears one bit."""
        number = bit // PAGE_BITS
        page = self._pages.get(number)
        at, mask = bit % PAGE_BITS >> 3, 1 << (bit & 7)
        if page is None or not page[at] & mask:
            return
        if self._counts[number] == 1:
            del self._pages[number], self._counts[number]
        else:
            page[at] ^= mask
            self._counts[number] -= 1

    def clear(self) -> None:
        """Clears every bit."""
        self._pages.clear()
        self._counts.clear()

    def fill(self) -> None:
        """Sets every bit."""
        self.merge(b"\xff" * ((self.nbits + 7) // 8))

    def merge(self, data: bytes) -> None:
        """Sets every bit that is set in `data` (a map as on disk); bits past the end are padding and ignored."""
        for start in range(0, min(len(data), (self.nbits + 7) // 8), PAGE_SIZE):
            self.merge_page(start // PAGE_SIZE, data[start : start + PAGE_SIZE])

    def merge_page(self, number: int, data: bytes) -> None:
        """Sets every bit that is set in `data`, the content of page `number` (or its beginning)."""
        bits = int.from_bytes(data, "little") & (1 << max(0, min(PAGE_BITS, self.nbits - number * PAGE_BITS))) - 1
        if not bits:
            return
        old = self._pages.get(number)
        if old is not None:
            bits |= int.from_bytes(old, "little")
        self._set_page(number, bits)

    def subtract(self, other: Bitmap) -> None:
        """Clears every bit that is set in `other`."""
        for number in other._pages.keys() & self._pages.keys():
            taken = int.from_bytes(other._pages[number], "little")
            self._set_page(number, int.from_bytes(self._pages[number], "little") & ~taken)

    def replace_page(self, number: int, page: bytes, mask: bytes) -> None:
        """Makes page `number` equal to `page`, but clear where `mask` is."""
        self._set_page(number, int.from_bytes(page, "little") & int.from_bytes(mask, "little"))

    def _set_page(self, number: int, bits: int) -> None:
        if bits:
            self._pages[number] = bytearray(bits.to_bytes(PAGE_SIZE, "little"))
            self._counts[number] = bits.bit_count()
        else:
            self._pages.pop(number, None)
            self._counts.pop(number, None)

    def page(self, number: int) -> bytes:
        """The content of page `number`: 4096 bytes."""
        page = self._pages.get(number)
        return bytes(PAGE_SIZE) if page is None else bytes(page)

    def pages(self) -> list[int]:
        """The numbers of the pages with a bit set, ascending."""
        return sorted(self._pages)

    def count(self, first: int, stop: int) -> int:
        """How many bits from `first` up to, not including, `stop` are set."""
        found = 0
        for number in range(first // PAGE_BITS, -(-stop // PAGE_BITS)):
            page = self._pages.get(number)
            if page is None:
                continue
            low, high = max(0, first - number * PAGE_BITS), min(PAGE_BITS, stop - number * PAGE_BITS)
            if high - low == PAGE_BITS:
                found += self._counts[number]
                continue
            bits = int.from_bytes(page[low >> 3 : high + 7 >> 3], "little") >> (low & 7)
            found += (bits & (1 << high - low) - 1).bit_count()
        return found

    def next_set(self, start: int) -> int | None:
        """The first set bit at or after `start`, or None."""
        for number in self._numbers_from(start // PAGE_BITS):
            page = self._pages[number]
            first = max(0, start - number * PAGE_BITS)
            bits = int.from_bytes(page[first >> 3 :], "little") >> (first & 7)
            if bits:
                return number * PAGE_BITS + first + (bits & -bits).bit_length() - 1
        return None

    def _numbers_from(self, first: int) -> Iterator[int]:
        if first in self._pages:  # the usual case: no need to look at all the others
            yield first
            first += 1
        yield from sorted(number for number in self._pages if number >= first)

    def to_bytes(self, size: int) -> bytes:
        """The whole map as on disk, `size` bytes."""
        data = bytearray(size)
        for number, page in self._pages.items():
            data[number * PAGE_SIZE : (number + 1) * PAGE_SIZE] = page
        return bytes(data[:size])
