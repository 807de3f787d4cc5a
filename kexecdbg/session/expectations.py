"""What a script expects of its machine; what is not met is raised with the evidence."""

from __future__ import annotations

import re
import textwrap
from typing import NoReturn

from kexecdbg.checks.verdict import Judgement
from kexecdbg.errors import TargetError
from kexecdbg.session.arrival import run_to_end
from kexecdbg.session.commands import Address, Commands, Table, regular_expression
from kexecdbg.session.failures import ExpectationFailed, NotInterrupted, NotOnThisTarget, TimedOut
from kexecdbg.session.results import Relocation, Switch, Verdict, Walk


class Expectations(Commands):
    """``expect_*`` methods; each returns what it has looked at.

    Raises (all of them):
        ExpectationFailed: with what was expected, what came, and what the command prints.
    """

    def expect_sound(self, *, timeout: float | None = None) -> Verdict:
        """The write at the PC, or ahead, switches the MMU on and the CPU runs on."""
        verdict = self.check(timeout=timeout)
        if not verdict.is_sound:
            _fail(f"expected a sound switch; {_summary(verdict)}", verdict.text)
        return verdict

    def expect_faults(
        self,
        *causes: str,
        esr: int | None = None,
        far: int | None = None,
        elr: int | None = None,
        timeout: float | None = None,
    ) -> Verdict:
        """The write at the PC, or ahead, does not end well, and just these findings are the causes.

        Args:
            causes: ids of the fatal findings, ``M01``; without any, whatever the cause is.
            esr, far, elr: syndrome of the first exception; what is ``None`` is not looked at.
        """
        verdict = self.check(timeout=timeout)
        found = sorted({cause.id for cause in verdict.causes})
        first = verdict.prediction.first
        wrong = [] if not causes or found == sorted(causes) else [" ".join(causes) + " as the cause"]
        for name, expected in (("esr", esr), ("far", far), ("elr", elr)):
            if expected is not None and (first is None or getattr(first, name) != expected):
                wrong.append(f"{name.upper()} {expected:#x}")
        if wrong or verdict.judgement is not Judgement.FAULTS:
            _fail(f"expected a fault{' with ' if wrong else ''}{', '.join(wrong)}; {_summary(verdict)}", verdict.text)
        return verdict

    def expect_as_predicted(self, *, follow: bool = False, timeout: float | None = None) -> Switch:
        """The switch is executed, and the CPU does what was predicted; see :meth:`step_over_switch`."""
        switch = self.step_over_switch(follow=follow, timeout=timeout)
        if switch.observed is None or not switch.observed.agrees:
            _fail(f"expected what was predicted for the switch at {switch.site:#x}; the CPU did not do it", switch.text)
        return switch

    def expect_register(self, name: str, value: int, *, mask: int = (1 << 64) - 1) -> int:
        """The register has this value, in the bits of ``mask``."""
        found = self.registers[name]
        if found & mask != value & mask:
            differing = (found ^ value) & mask
            text = self.kexec_command(f"kexec-regs {name}").text
            _fail(f"expected {name} to be {value:#x}; it is {found:#x}, bits {differing:#x} differ", text)
        return found

    def expect_mapped(
        self,
        address: Address,
        *,
        pa: int | None = None,
        read: bool | None = None,
        write: bool | None = None,
        execute: bool | None = None,
        memory_type: str | None = None,
        table: Table = "ttbr0",
        timeout: float | None = None,
    ) -> Walk:
        """The address translates, and as given; what is ``None`` is not looked at.

        Args:
            memory_type: text that its memory type has to contain, ``Device`` for instance.
        """
        walk = self.walk(address, table=table, timeout=timeout)
        if walk.pa is None:
            _fail(f"expected {walk.va:#x} to be mapped; it is not: {walk.fault or 'it cannot be told'}", walk.text)
        wrong = []
        if pa is not None and walk.pa != pa:
            wrong.append(f"to {pa:#x} (it is to {walk.pa:#x})")
        for adjective, found, wanted in (
            ("readable", walk.read, read),
            ("writable", walk.write, write),
            ("executable", walk.execute, execute),
        ):
            if wanted is not None and found is not wanted:
                is_so = {None: "that is unknown", True: "it is", False: "it is not"}[found]
                wrong.append(f"{'' if wanted else 'not '}{adjective} ({is_so})")
        if memory_type is not None and memory_type not in (walk.memory_type or ""):
            wrong.append(f"as {memory_type} (it is {walk.memory_type})")
        if wrong:
            _fail(f"expected {walk.va:#x} to be mapped {', '.join(wrong)}", walk.text)
        return walk

    def expect_relocated(self, *, timeout: float | None = None) -> Relocation:
        """The relocation runs to its end: every page as it should be, every boot register right."""
        relocation = self.relocate(timeout=timeout)
        if not relocation.is_sound:
            _fail(f"expected a relocation without fault; it is {relocation.outcome.replace('_', ' ')}", relocation.text)
        return relocation

    def expect_console(self, pattern: str, *, timeout: float | None = None) -> re.Match[str]:
        """The guest prints, or has printed, what matches the regular expression; it is let run for that.

        Raises:
            NotOnThisTarget: the session did not start the machine.
        """
        console = self._console
        expression = regular_expression(pattern)
        found = expression.search(console.text)
        if found is not None:
            return found
        seconds = self._seconds(timeout)
        stop = self.where()
        if not stop.ended:
            self.resume()
        try:
            return console.wait_for(pattern, seconds)
        except TargetError:  # the console's text and the place say more
            pass
        finally:
            if not stop.ended:
                stop = self.interrupt()
        place = str(stop) if stop.ended else f"after {seconds:g} s the CPU is at {stop}"
        _fail(f"expected {pattern!r} on the console; it did not come, {place}", _last_lines(console.text))

    def expect_arrival(self, *, timeout: float | None = None) -> None:
        """The machine runs on to where it should come: a lab guest to its end, a kernel's kexec to the second init.

        Raises:
            NotOnThisTarget: it is neither a lab guest nor a Linux guest, so what its end is, is not known.
        """
        seconds = self._seconds(timeout)
        if self._target.lab is not None:
            try:
                exception = run_to_end(self._target.lab, self._gdb, seconds)
            except NotInterrupted:
                raise  # GDB would not say why
            except TimedOut as error:
                _fail(f"expected the guest to come to its end; {error}", self.why().text)
            if exception is not None:
                _fail(f"expected the guest to come to its end; it took an exception to {self.where()}", self.why().text)
        elif self._target.linux is not None:
            self.resume()
            try:
                self._target.linux.wait_second(seconds)
            except TargetError as error:
                _fail(f"expected the second kernel; {error}", _last_lines(self.console))
            finally:
                self.interrupt()
        else:
            raise NotOnThisTarget("where the machine should arrive is known of lab and Linux guests only")


def _fail(expectation: str, evidence: str) -> NoReturn:
    raise ExpectationFailed(f"{expectation}\n{textwrap.indent(evidence, '  ')}") from None


def _summary(verdict: Verdict) -> str:
    causes = " ".join(dict.fromkeys(cause.id for cause in verdict.causes))
    first = verdict.prediction.first
    syndrome = "" if first is None else f", ESR {first.esr:#x} ELR {first.elr:#x}"
    return f"the verdict is {verdict.judgement.value.upper()}{f', {causes}' if causes else ''}{syndrome}"


def _last_lines(console: str, count: int = 10) -> str:
    return "\n".join(console.replace("\r", "").splitlines()[-count:]) or "(nothing was printed)"
