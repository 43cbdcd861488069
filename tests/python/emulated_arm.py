"""The CPU kernels compiled for 64-bit ARM and run on an emulated processor, with the names of the torch operators.

zig (of the package ziglang) is the compiler and Unicorn the processor: one of ARMv8.0, which has nothing that is not in
every 64-bit ARM. There is no operating system and no C library, only tests/c/emulated_arm/c_library.c.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import torch
import unicorn
from build_settings import REPOSITORY, setting
from unicorn import arm64_const as arm

if TYPE_CHECKING:
    from pathlib import Path

TARGET = "aarch64-linux-musl"
PAGE = 0x10000
STACK, STACK_SIZE = 0x1000_0000, 0x10_0000
RETURN_ADDRESS = STACK
"""No code is there: the emulation stops."""
SMALL = 0x1800_0000
"""Memory for structs, arrays of pointers and results."""
ARRAYS, ARRAY_SIZE = 0x2000_0000, 0x10_0000
"""Of each operand; as much behind it is not mapped, so that whoever reads or writes there is caught."""
FLOATING_POINT_ENABLED = 3 << 20
FLUSH_DENORMALS, ROUND_UP = 1 << 24, 1 << 22
"""Of the control register for floating point."""
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""As ws_dtype counts them."""


def zig(*arguments: str | Path, cache: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ziglang", *map(str, arguments)],
        env={**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(cache), "ZIG_LOCAL_CACHE_DIR": str(cache)},
        cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def build_program(folder: Path) -> Path:
    """All levels of 64-bit ARM with the compiler options of the pack, in an executable without a beginning."""
    levels = [REPOSITORY / "src/cpu/kernels_neon.c"]
    sources = [REPOSITORY / name for name in setting("libraries.cmake", "WAVESPEED_CPU_SOURCES")] + levels
    library = REPOSITORY / "tests/c/emulated_arm/c_library.c"
    objects = []
    for source in [*sources, library]:
        options = ["-O2", "-ffreestanding", "-fno-builtin"]
        if source != library:
            warnings = ["-Werror", *setting("compiler.cmake", "WAVESPEED_C_WARNINGS"), "-Wpedantic"]
            options = [*setting("libraries.cmake", "WAVESPEED_CPU_OPTIONS"), *warnings, "-Iinclude", "-Isrc"]
        objects.append(folder / f"{source.stem}.o")
        zig("cc", "-target", TARGET, "-std=c11", "-g0", *options, "-c", source, "-o", objects[-1], cache=folder)
    program = folder / "kernels"
    zig("ld.lld", "--entry=ws_kernels_level", "-o", program, *objects, cache=folder)
    return program


class Executable:
    """An ELF file of 64 bits."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        (segments_at, sections_at) = struct.unpack_from("<QQ", content, 32)
        (segment_size, segment_count, section_size, section_count) = struct.unpack_from("<HHHH", content, 54)
        self.segments = []
        """(address, bytes, size in memory)."""
        for i in range(segment_count):
            kind, _, start, address, _, size, memory_size = struct.unpack_from(
                "<IIQQQQQ", content, segments_at + i * segment_size
            )
            if kind == 1:  # PT_LOAD
                self.segments.append((address, content[start : start + size], memory_size))
        sections = [
            struct.unpack_from("<IIQQQQI", content, sections_at + i * section_size) for i in range(section_count)
        ]
        self.symbols: dict[str, int] = {}
        for _, kind, _, _, start, size, names in sections:
            if kind == 2:  # SHT_SYMTAB
                names_at = sections[names][4]
                for at in range(start, start + size, 24):
                    name, _, _, _, value = struct.unpack_from("<IBBHQ", content, at)
                    self.symbols[self.text(names_at + name)] = value

    def text(self, start: int) -> str:
        return self.content[start : self.content.index(b"\0", start)].decode()


class EmulatedKernels:
    """The operators of one level. Operands that are no contiguous arrays are copied, as the native operators do."""

    def __init__(self, program: Path, level: int) -> None:
        """level: as ws_kernels_level() counts them."""
        executable = Executable(program.read_bytes())
        self.symbols = executable.symbols
        self.control = 0
        """What the calling thread has set for floating point."""
        self.processor = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        self.processor.ctl_set_cpu_model(arm.UC_CPU_ARM64_A53)
        self.processor.reg_write(arm.UC_ARM64_REG_CPACR_EL1, FLOATING_POINT_ENABLED)
        begin = min(address for address, _, _ in executable.segments) // PAGE * PAGE
        end = max(address + size for address, _, size in executable.segments)
        self.processor.mem_map(begin, (end - begin + PAGE - 1) // PAGE * PAGE)
        for address, content, _ in executable.segments:
            self.processor.mem_write(address, content)
        self.processor.mem_map(STACK, STACK_SIZE)
        self.processor.mem_map(SMALL, PAGE)
        for place in range(6):
            self.processor.mem_map(ARRAYS + 2 * place * ARRAY_SIZE, ARRAY_SIZE)
        self.call("ws_kernels_level", level)
        kernels = self.processor.reg_read(arm.UC_ARM64_REG_X0)
        assert kernels != 0, f"there is no level {level}"
        self.executor = self.put(0, struct.pack("<QQ", kernels, 0))
        """ws_cpu_executor, without threads."""
        (name,) = struct.unpack("<Q", self.processor.mem_read(kernels, 8))
        self.level = bytes(self.processor.mem_read(name, 16)).split(b"\0")[0].decode()

    # ---- Calls -------------------------------------------------------------------------------------------------------

    def put(self, place: int, content: bytes) -> int:
        """The address of something small."""
        address = SMALL + place * 256
        self.processor.mem_write(address, content)
        return address

    def array(self, place: int, tensor: torch.Tensor) -> int:
        """The address of a copy: as late in its memory as the alignment of the tensor allows."""
        content = tensor.clone(memory_format=torch.contiguous_format).view(torch.uint8).numpy().tobytes()
        end = ARRAYS + 2 * place * ARRAY_SIZE + ARRAY_SIZE
        address = end - len(content)
        address -= (address - tensor.data_ptr()) % 16
        self.processor.mem_write(address, content)
        return address

    def take(self, address: int, tensor: torch.Tensor) -> torch.Tensor:
        """Fills the tensor with what is at the address."""
        content = self.processor.mem_read(address, tensor.numel() * tensor.itemsize)
        if len(content) > 0:
            tensor.copy_(torch.frombuffer(content, dtype=tensor.dtype).view(tensor.shape))
        return tensor

    def call(self, function: str, *arguments: int) -> torch.Tensor:
        """What it returns as a double."""
        for i, argument in enumerate(arguments):
            self.processor.reg_write(arm.UC_ARM64_REG_X0 + i, argument)
        self.processor.reg_write(arm.UC_ARM64_REG_SP, STACK + STACK_SIZE)
        self.processor.reg_write(arm.UC_ARM64_REG_LR, RETURN_ADDRESS)
        self.processor.reg_write(arm.UC_ARM64_REG_FPCR, self.control)
        self.processor.emu_start(self.symbols[function], RETURN_ADDRESS)
        assert self.processor.reg_read(arm.UC_ARM64_REG_PC) == RETURN_ADDRESS
        assert self.processor.reg_read(arm.UC_ARM64_REG_FPCR) == self.control
        returned = struct.pack("<Q", self.processor.reg_read(arm.UC_ARM64_REG_D0))
        return torch.frombuffer(bytearray(returned), dtype=torch.float64)

    # ---- Operators ---------------------------------------------------------------------------------------------------

    def distance(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        sums = self.put(1, bytes(16))
        of = (self.array(0, a), self.array(1, b), a.numel())
        self.call("ws_residual_distance", self.executor, DTYPES.index(a.dtype), *of, sums)
        return self.take(sums, torch.empty(2, dtype=torch.float64))

    def moments(self, probe: torch.Tensor, *stored: torch.Tensor) -> torch.Tensor:
        sums = self.put(1, bytes(64))
        addresses = self.put(2, struct.pack("<3Q", *(self.array(1 + i, tensor) for i, tensor in enumerate(stored))))
        of = (self.array(0, probe), addresses, probe.numel())
        self.call("ws_residual_moments", self.executor, DTYPES.index(probe.dtype), *of, sums)
        return self.take(sums, torch.empty(8, dtype=torch.float64))

    def finish(self, base: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        written = self.array(0, base)
        of = (written, self.array(1, end), end.numel())
        total = self.call("ws_residual_finish", self.executor, DTYPES.index(end.dtype), *of)
        self.take(written, base)
        return total

    def subtract(self, residual: torch.Tensor, start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        written = self.array(0, residual)
        of = (written, self.array(1, start), self.array(2, end), end.numel())
        total = self.call("ws_residual_subtract", self.executor, DTYPES.index(end.dtype), *of)
        self.take(written, residual)
        return total

    def advance(
        self, residual: torch.Tensor, difference: torch.Tensor, start: torch.Tensor, end: torch.Tensor
    ) -> torch.Tensor:
        written = (self.array(0, residual), self.array(1, difference))
        of = (*written, self.array(2, start), self.array(3, end), end.numel())
        total = self.call("ws_residual_advance", self.executor, DTYPES.index(end.dtype), *of)
        self.take(written[0], residual)
        self.take(written[1], difference)
        return total

    def apply(self, hidden: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        out = torch.zeros_like(hidden)
        written = self.array(0, out)
        of = (written, self.array(1, hidden), self.array(2, residual), hidden.numel())
        self.call("ws_residual_apply", self.executor, DTYPES.index(hidden.dtype), *of)
        return self.take(written, out)

    def apply_in_place(self, hidden: torch.Tensor, residual: torch.Tensor) -> None:
        written = self.array(0, hidden)
        of = (written, written, self.array(1, residual), hidden.numel())
        self.call("ws_residual_apply", self.executor, DTYPES.index(hidden.dtype), *of)
        self.take(written, hidden)

    def extrapolate(self, hidden: torch.Tensor, *forecast: Any) -> torch.Tensor:
        out = torch.zeros_like(hidden)
        written = self.array(5, out)
        self._extrapolate(written, self.array(0, hidden), hidden, *forecast)
        return self.take(written, out)

    def extrapolate_in_place(self, hidden: torch.Tensor, *forecast: Any) -> None:
        written = self.array(0, hidden)
        self._extrapolate(written, written, hidden, *forecast)
        self.take(written, hidden)

    def _extrapolate(
        self, out: int, start: int, hidden: torch.Tensor, residual: torch.Tensor,
        newer: torch.Tensor, older: torch.Tensor, newer_weight: float, older_weight: float,
    ) -> None:  # fmt: skip
        differences = self.put(2, struct.pack("<2Q", self.array(2, newer), self.array(3, older)))
        weights = self.put(3, struct.pack("<2f", newer_weight, older_weight))
        of = (out, start, self.array(1, residual), differences, weights, hidden.numel())
        self.call("ws_residual_extrapolate", self.executor, DTYPES.index(hidden.dtype), *of)
