"""Asks QEMU's MMU: a machine with the guest program of ours, its RAM mapped here, records in and out in batches."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from kexecdbg.errors import TargetError
from kexecdbg.lab.guest import build_program
from kexecdbg.lab.image import RamImage
from kexecdbg.lab.oracle import cases
from kexecdbg.lab.oracle.cases import Answer, Case, Status, pack_question, unpack_answer
from kexecdbg.qemu.process import MachineOptions, QemuProcess

BATCH_LIMIT = 2048
"""Records that fit where they are kept."""

_IDENTITY = (
    "MIDR_EL1", "ID_AA64PFR0_EL1", "ID_AA64PFR1_EL1", "ID_AA64ISAR0_EL1", "ID_AA64ISAR1_EL1", "ID_AA64ISAR2_EL1",
    "ID_AA64MMFR0_EL1", "ID_AA64MMFR1_EL1", "ID_AA64MMFR2_EL1", "ID_AA64MMFR3_EL1", "ID_AA64MMFR4_EL1", "CNTFRQ_EL0",
)  # fmt: skip
_BATCH, _COUNT, _TICKS, _IDENTITY_OFFSET = 0, 8, 16, 64
_SECONDS = 30.0
_LOOK_MICROSECONDS = 300
"""Between two looks of the guest whether a fetch is stuck: for what is, the time it costs."""

# The identity map that EL3 works under: 1 GiB from 0x40000000, read-only so that SCTLR_EL3.WXN does not matter.
_EL3_BLOCK = 0x4000_0000 | 1 << 10 | 1 << 7 | 3 << 8 | 0b01


class MachineDiedError(TargetError):
    """QEMU ended, or the guest never came back, in the middle of a batch.

    Attributes:
        index: the case it happened in; those before it have answers.
        ended: QEMU ended by itself; otherwise it hangs, and finding that out took its time.
    """

    def __init__(self, index: int, ended: bool, reason: str) -> None:
        self.index = index
        self.ended = ended
        super().__init__(reason)


@dataclass(frozen=True)
class Batch:
    """Cases that are asked together, and all their memory."""

    cases: Sequence[Case]
    memory: Mapping[int, int]


class Oracle:
    """A machine that answers cases (use as a context manager); its CPU is ``cpu``.

    Attributes:
        identity: the CPU's identification registers by name.
    """

    def __init__(self, cpu: str) -> None:
        self.cpu = cpu
        self._number = 0
        self._batch: Batch | None = None
        options = MachineOptions(cpu=cpu, machine="secure=on,virtualization=on,gic-version=3", prepare=_load_program)
        self._qemu = QemuProcess(options)
        try:
            self._qemu.command("query-status")  # once it answers, the RAM file is there
            descriptor = os.open(self._qemu.ram_file, os.O_RDWR)
            try:
                self._ram = mmap.mmap(descriptor, cases.RAM_END - cases.RAM_START)
            finally:
                os.close(descriptor)
            for address, word in (
                (cases.EL3_TABLE_LITTLE + 8, _EL3_BLOCK.to_bytes(8, "little")),
                (cases.EL3_TABLE_BIG + 8, _EL3_BLOCK.to_bytes(8, "big")),
            ):
                self._write(address, word)
            self._qemu.command("cont")
            self._qemu.console.wait_for(f"{0:016x}\n", _SECONDS)
            values = [self._word(cases.MAILBOX + _IDENTITY_OFFSET + 8 * index) for index in range(len(_IDENTITY))]
            self.identity = dict(zip(_IDENTITY, values, strict=True))
        except BaseException:
            self._qemu.close()
            raise

    def start(self, batch: Batch) -> None:
        """Let the machine begin with ``batch``, at most :data:`BATCH_LIMIT` cases; :meth:`finish` gives the answers."""
        assert self._batch is None and len(batch.cases) <= BATCH_LIMIT
        for address, word in batch.memory.items():
            offset = address - cases.RAM_START
            self._ram[offset : offset + 8] = word.to_bytes(8, "little")
        empty = bytes(cases.RECORD_SIZE - cases.ANSWER_OFFSET)
        records = b"".join(pack_question(case) + empty for case in batch.cases)
        self._write(cases.RECORDS, records)
        self._write_word(cases.MAILBOX + _COUNT, len(batch.cases))
        self._write_word(cases.MAILBOX + _TICKS, self.identity["CNTFRQ_EL0"] * _LOOK_MICROSECONDS // 1_000_000)
        self._number += 1
        self._batch = batch
        self._write_word(cases.MAILBOX + _BATCH, self._number)

    def finish(self) -> list[Answer]:
        """The answers of the batch that was started, in its order.

        Raises:
            MachineDiedError: QEMU ended or hangs; the machine is of no more use.
        """
        batch = self._batch
        assert batch is not None
        try:
            self._qemu.console.wait_for(f"{self._number:016x}\n", _SECONDS)
        except TargetError as error:
            done = [answer.status is not Status.NOT_DONE for answer in self._answers(len(batch.cases))]
            index = done.index(False) if False in done else len(done) - 1
            ended = self._has_ended()
            how = "ended" if ended else f"gave no answer in {_SECONDS:g} s"
            raise MachineDiedError(index, ended, f"QEMU {how}; it says: {self._qemu.log() or 'nothing'}") from error
        answers = self._answers(len(batch.cases))
        self._clear(batch.memory)
        self._batch = None
        return answers

    def ask(self, batch_cases: Sequence[Case]) -> list[Answer]:
        """The answers to a few cases whose memory does not overlap."""
        memory: dict[int, int] = {}
        for case in batch_cases:
            memory.update(case.memory)
        self.start(Batch(batch_cases, memory))
        return self.finish()

    def close(self) -> None:
        """End the machine."""
        self._ram.close()
        self._qemu.close()

    def __enter__(self) -> Oracle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _has_ended(self) -> bool:
        try:
            self._qemu.command("query-status")
        except TargetError:
            return True
        return False

    def _answers(self, count: int) -> list[Answer]:
        start = cases.RECORDS - cases.RAM_START
        data = self._ram[start : start + count * cases.RECORD_SIZE]
        offsets = range(cases.ANSWER_OFFSET, count * cases.RECORD_SIZE, cases.RECORD_SIZE)
        return [unpack_answer(data[offset : offset + 96]) for offset in offsets]

    def _clear(self, addresses: Iterable[int]) -> None:
        zero = bytes(8)
        for address in addresses:
            offset = address - cases.RAM_START
            self._ram[offset : offset + 8] = zero

    def _write(self, address: int, data: bytes) -> None:
        offset = address - cases.RAM_START
        self._ram[offset : offset + len(data)] = data

    def _write_word(self, address: int, value: int) -> None:
        self._write(address, value.to_bytes(8, "little"))

    def _word(self, address: int) -> int:
        offset = address - cases.RAM_START
        return int.from_bytes(self._ram[offset : offset + 8], "little")


def _load_program(directory: Path) -> Sequence[str]:
    addresses = {
        "program_address": cases.PROGRAM,
        "el1_vectors_address": cases.EL1_VECTORS,
        "el2_vectors_address": cases.EL2_VECTORS,
        "mailbox_address": cases.MAILBOX,
        "records_address": cases.RECORDS,
    }
    program = build_program("oracle", addresses)
    image = RamImage()
    for address, data in program.segments.items():
        image.place(address, data)
    return image.qemu_arguments(directory, program.entry)
