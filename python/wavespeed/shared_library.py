"""Looks at a shared library before it is loaded.

The system's loader maps a file that was cut off (an interrupted copy, a full disk) and then dies on the missing pages,
taking ComfyUI with it. No exception can be caught; so the length is compared with what the file itself says.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ELF64_LITTLE_ENDIAN = b"\x7fELF\x02\x01"
ELF64_HEADER_SIZE = 64
SECTION_TABLE_OFFSET = 0x28
SECTION_ENTRY_SIZE = 0x3A
"""Followed by the number of entries. Linkers write the section table last, so it ends where the file ends."""


def missing_bytes(file: Path) -> int:
    """How many bytes an ELF library lacks at its end; 0 for a complete one and for files of another kind."""
    with file.open("rb") as library:
        header = library.read(ELF64_HEADER_SIZE)
    if not header.startswith(ELF64_LITTLE_ENDIAN) or len(header) < ELF64_HEADER_SIZE:
        return 0
    (table,) = struct.unpack_from("<Q", header, SECTION_TABLE_OFFSET)
    entry_size, entries = struct.unpack_from("<HH", header, SECTION_ENTRY_SIZE)
    return max(0, table + entry_size * entries - file.stat().st_size)
