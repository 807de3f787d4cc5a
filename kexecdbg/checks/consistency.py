"""Whether the control registers of a translation regime agree with each other, judged without any memory.

Only what registers alone can show is judged here. Registers that agree and a machine that freezes all the same mean
that the cause is in the tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from kexecdbg.arm64.bits import bit, bits, field_mask
from kexecdbg.arm64.faults import CauseKind
from kexecdbg.arm64.features import effective_e2h
from kexecdbg.arm64.geometry import ADDRESS_SIZES
from kexecdbg.arm64.interfaces import RegisterValues
from kexecdbg.arm64.memory_types import memory_type_of_mair_byte
from kexecdbg.arm64.pstate import el_of
from kexecdbg.arm64.regimes import SCTLR_C, SCTLR_EE, SCTLR_I, SCTLR_M, SCTLR_WXN, Regime
from kexecdbg.arm64.registers import decode, lookup
from kexecdbg.arm64.translation import Stage1, stage1_of
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.output_size import output_size_problem
from kexecdbg.errors import ArchitectureError, RegisterUnknownError
from kexecdbg.machine.state import CpuState

HCR_WITHOUT_VHE = 0x8000_0000
"""HCR_EL2 with RW alone: a hypervisor, or firmware, that leaves EL1 to AArch64."""
HCR_VHE_HOST = 0x4_8800_0000
"""HCR_EL2 with E2H, TGE and RW: a host kernel at EL2, the only common use of E2H=1."""
_MMFR0 = "ID_AA64MMFR0_EL1"


@dataclass(frozen=True)
class Consistency:
    """The registers of one translation regime, held against each other.

    Attributes:
        regime: the regime they belong to.
        reading: why the EL2 registers are read in this E2H layout, when HCR_EL2 does not say; empty otherwise.
        findings: what contradicts, the worst first.
        agreed: what was checked and is right, one clause each.
        given: control registers that have a value, ``missing`` those that have none.
        unjudged: table base registers whose range could not be judged; a finding says why.
        odd: registers of ``given`` with reserved bits or values; their own decoding says which.
        assumed: register values that the reading stands for.
    """

    regime: Regime
    reading: str
    findings: tuple[Finding, ...]
    agreed: tuple[str, ...]
    given: tuple[str, ...]
    missing: tuple[str, ...]
    unjudged: tuple[str, ...]
    odd: tuple[str, ...]
    assumed: Mapping[str, int] = field(default_factory=dict)

    @property
    def faults(self) -> bool:
        """Whether the registers alone make an access fault."""
        return any(finding.severity is Severity.FATAL for finding in self.findings)

    @property
    def statement(self) -> str:
        """The verdict in one or two sentences."""
        if self.faults:
            return f"The {self.regime.value} registers contradict each other: the cause is in the registers."
        if self.unjudged:
            return (
                f"Whether the {self.regime.value} registers are consistent is unknown: what {_listed(self.unjudged)} "
                f"{'translates' if len(self.unjudged) == 1 else 'translate'} could not be judged."
            )
        if len(self.given) == 1:
            return f"{self.given[0]} alone shows nothing that would fault in the {self.regime.value} regime."
        if self.missing:
            return (
                f"{_listed(self.given)} are consistent with each other for the {self.regime.value} regime; "
                f"{_listed(self.missing)} {'is' if len(self.missing) == 1 else 'are'} not given."
            )
        return (
            f"These registers are consistent with each other for the {self.regime.value} regime. "
            "If the machine freezes with them, the cause must be looked for in the tables."
        )


@dataclass
class _Notes:
    """What a judgement gathers: findings each with a clause for "as E2H=1, ...", and what is right."""

    findings: list[Finding] = field(default_factory=list)
    clauses: list[str] = field(default_factory=list)
    agreed: list[str] = field(default_factory=list)
    unjudged: list[str] = field(default_factory=list)

    def fatal(self, finding_id: str, text: str, clause: str, evidence: Mapping[str, int | str | None]) -> None:
        self.findings.append(Finding(finding_id, Severity.FATAL, text, evidence))
        self.clauses.append(clause)

    def hazard(self, finding_id: str, text: str, evidence: Mapping[str, int | str | None]) -> None:
        self.findings.append(Finding(finding_id, Severity.HAZARD, text, evidence))

    def note(self, finding_id: str, text: str, evidence: Mapping[str, int | str | None]) -> None:
        self.findings.append(Finding(finding_id, Severity.NOTE, text, evidence))


def consistency_of(registers: RegisterValues) -> tuple[Consistency, ...]:
    """Judge the translation registers of each exception level that ``registers`` has some of; never raises.

    The levels whose TCR_ELx is known; when none is, every level with a control register.
    """
    known = {el: any(registers.get(name) is not None for name in _controls(el)) for el in (1, 2, 3)}
    levels = [el for el in known if registers.get(f"TCR_EL{el}") is not None]
    judged = (_judge_level(registers, el) for el in levels or [el for el in known if known[el]])
    # TTBR1_EL2 alone, read as E2H=0, is not a register of the regime.
    return tuple(each for each in judged if each.given)


def _controls(el: int) -> tuple[str, ...]:
    return tuple(f"{name}_EL{el}" for name in ("SCTLR", "TCR", "TTBR0", "TTBR1", "MAIR") if el < 3 or name != "TTBR1")


def _judge_level(registers: RegisterValues, el: int) -> Consistency:
    if el != 2:
        return _judge(registers, Regime.EL1_0 if el == 1 else Regime.EL3)[0]
    e2h = effective_e2h(registers)
    if e2h is not None:
        return _judge(registers, Regime.EL2_0 if e2h else Regime.EL2)[0]
    narrow, narrow_clauses = _judge(registers, Regime.EL2, {"HCR_EL2": HCR_WITHOUT_VHE})
    wide, wide_clauses = _judge(registers, Regime.EL2_0, {"HCR_EL2": HCR_VHE_HOST})
    deciding = next(name for name in ("TCR_EL2", *_controls(2)) if registers.get(name) is not None)
    by_value = decode(deciding, registers.get(deciding) or 0, registers)
    chosen, clauses = narrow, wide_clauses
    if (wide.faults, by_value.layout == "E2H=0") < (narrow.faults, by_value.layout == "E2H=1"):
        chosen, clauses = wide, narrow_clauses
    label, other_label = ("E2H=0", "E2H=1") if chosen is narrow else ("E2H=1", "E2H=0")
    reason = _why(by_value.assumptions) if by_value.layout == label else ""
    against = f"as {other_label}, {clauses[0]}" if clauses else f"as {other_label} nothing would fault either"
    reading = (
        f"HCR_EL2 is not given: read as {label}. "
        f"{f'{deciding}: {reason}; ' if reason else ''}{against}.{'' if clauses else ' HCR_EL2=VALUE settles it.'}"
    )
    return replace(chosen, reading=reading)


def _why(assumptions: tuple[str, ...]) -> str:
    """The reason in the sentence with which a register's layout was guessed."""
    return assumptions[0].partition(" because ")[2] if assumptions else ""


def _judge(
    registers: RegisterValues, regime: Regime, assumed: Mapping[str, int] | None = None
) -> tuple[Consistency, tuple[str, ...]]:
    """The judgement in one regime, and a clause for each fatal finding."""
    facts = regime.facts
    state = CpuState(registers, assumed or {})
    notes = _Notes()
    names = (facts.sctlr, facts.tcr, facts.mair, facts.ttbr0)
    optional = (facts.ttbr1,) if facts.ttbr1 and registers.get(facts.ttbr1) is not None else ()
    given = tuple(name for name in (*names, *optional) if registers.get(name) is not None)
    tcr = registers.get(facts.tcr)
    if tcr is not None:
        _check_layout(notes, state, regime, tcr)
        for upper in (False, True) if facts.two_ranges else (False,):
            _check_range(notes, state, regime, tcr, upper)
        _check_output_size(notes, state, regime, tcr)
    _check_sctlr(notes, registers.get(facts.sctlr), facts.sctlr)
    _check_mair(notes, registers.get(facts.mair), facts.mair)
    if notes.clauses:
        # The wrong layout is what makes the fields wrong: it comes first, and it faults.
        notes.findings.sort(key=lambda finding: finding.id != "M06")
        notes.findings[:] = [
            replace(finding, severity=Severity.FATAL) if finding.id == "M06" else finding for finding in notes.findings
        ]
    order = list(Severity)
    result = Consistency(
        regime,
        "",
        tuple(sorted(notes.findings, key=lambda finding: order.index(finding.severity))),
        tuple(notes.agreed),
        given,
        tuple(name for name in names if registers.get(name) is None),
        tuple(notes.unjudged),
        tuple(name for name in given if decode(name, registers.get(name) or 0, state).findings),
        assumed or {},
    )
    return result, tuple(notes.clauses)


def _check_layout(notes: _Notes, state: CpuState, regime: Regime, tcr: int) -> None:
    """TCR written for the other layout (M06), or sign-extended from bit 31 (M07)."""
    name = regime.facts.tcr
    if regime is not Regime.EL2 and tcr >> 32 == 0xFFFF_FFFF:
        text = f"{name} bits 63:32 are all set, as if the value had been sign-extended: IPS is 7 and DS is 1."
        notes.fatal("M07", text, "bits 63:32 would all be set", {"register": name, "value": tcr})
    if name != "TCR_EL2":
        return
    narrow, wide = lookup(name).layouts
    own, other = (wide, narrow) if regime is Regime.EL2_0 else (narrow, wide)
    looks_other = other.fits(tcr) and (not own.fits(tcr) or (own is wide and tcr >> 32 == 0))
    if "HCR_EL2" in state.assumed:
        return
    if looks_other:
        text = f"{name} = {tcr:#x} looks written in the {other.label} layout, but HCR_EL2 makes {own.label} count."
        notes.hazard("M06", text, {"register": name, "value": tcr, "layout": own.label, "written_for": other.label})
    else:
        notes.agreed.append(f"{name} fits the {own.label} layout that HCR_EL2 selects")


def _check_range(notes: _Notes, state: CpuState, regime: Regime, tcr: int, upper: bool) -> None:
    """TxSZ, granule, EPD, and the TTBR of one address range."""
    facts = regime.facts
    ttbr = facts.ttbr1 if upper and facts.ttbr1 else facts.ttbr0
    number = int(upper)
    program_counter = _program_counter(state, facts.el)
    runs_here = program_counter is not None and facts.is_upper(program_counter) == upper
    epd = facts.tcr_layout.ranges[number].epd
    if epd is not None and bit(tcr, epd):
        text = f"{facts.tcr}.EPD{number} is 1: walks through {ttbr} are switched off"
        evidence: dict[str, int | str | None] = {"register": facts.tcr, "field": f"EPD{number}", "bit": epd}
        if runs_here:
            text += f", and PC {program_counter:#x} is in that range: its fetch takes a Translation fault at level 0."
            notes.fatal("M35", text, f"EPD{number} would be 1", evidence)
        elif not upper or state.get(ttbr) is not None:
            notes.note("M35", f"{text}; any access there takes a Translation fault at level 0.", evidence)
        return
    try:
        stage = stage1_of(_filled(state, regime), regime, upper=upper)
    except (RegisterUnknownError, ArchitectureError) as error:
        notes.note("M10", f"{ttbr}: not judged, {error}.", {"register": facts.tcr})
        notes.unjudged.append(ttbr)
        return
    if stage.problem is not None:
        rule = "M12" if stage.problem.kind is CauseKind.RESERVED_GRANULE else "M10"
        evidence = {"register": facts.tcr, "field": stage.problem.field, "value": tcr}
        text = f"{stage.problem.text}."
        if upper and state.get(ttbr) is None and not runs_here:
            notes.note(rule, f"{text} It matters only if the upper range is used.", evidence)
        else:
            notes.fatal(rule, text, _as_if(stage.problem.text, facts.tcr), evidence)
        return
    level = stage.table.start_level
    notes.agreed.append(
        f"T{number}SZ {64 - stage.table.input_bits} and the {stage.table.granule.name} granule: "
        f"{stage.table.input_bits}-bit addresses, the walk starts at level {level}"
    )
    if state.get(ttbr) is not None:
        _check_base(notes, stage, tcr, facts.tcr_layout.ps, facts.two_ranges)
    if runs_here and program_counter is not None:
        _check_program_counter(notes, stage, program_counter, f"T{number}SZ", facts.tcr)


def _check_base(notes: _Notes, stage: Stage1, tcr: int, ps: tuple[int, int], two_ranges: bool) -> None:
    """The first table: below the output size, and aligned."""
    name = "IPS" if two_ranges else "PS"
    size = f"{stage.table.output_bits} bits"
    evidence: dict[str, int | str | None] = {
        "register": stage.ttbr, "address": stage.base, "field": name, "value": bits(tcr, *ps),
    }  # fmt: skip
    if not stage.table.fits(stage.base):
        text = (
            f"{stage.ttbr}: the table at {stage.base:#x} is beyond the output size, {name} = {bits(tcr, *ps)} "
            f"({size}): every walk takes an Address size fault at level 0."
        )
        clause = f"{name} would be {size} and the table at {stage.base:#x} beyond it"
        notes.fatal("M08", text, clause, evidence)
    else:
        aligned = "" if stage.warnings else f", aligned to its {stage.table.base_alignment:#x} bytes"
        notes.agreed.append(f"{stage.ttbr}: the table at {stage.base:#x} is within {name} ({size}){aligned}")
    for warning in stage.warnings:
        notes.hazard("M17", f"{warning.text}.", evidence)


def _check_program_counter(notes: _Notes, stage: Stage1, address: int, field_name: str, tcr: str) -> None:
    low = address & field_mask(55, 0) if stage.tbi_fetch else address
    top = field_mask(55 if stage.tbi_fetch else 63, stage.table.input_bits)
    if low & top == (top if stage.upper else 0):
        notes.agreed.append(f"PC {address:#x} is within the {stage.table.input_bits}-bit range of {stage.ttbr}")
        return
    text = (
        f"PC {address:#x} is outside the {stage.table.input_bits}-bit range that {tcr}.{field_name} gives "
        f"{stage.ttbr}: its fetch takes a Translation fault at level 0."
    )
    notes.fatal("M11", text, f"PC {address:#x} would be out of range", {"register": tcr, "address": address})


def _check_output_size(notes: _Notes, state: CpuState, regime: Regime, tcr: int) -> None:
    """PS against what the CPU implements, and against what the descriptors can hold."""
    facts = regime.facts
    problem = output_size_problem(state, regime, tcr)
    if problem is not None:
        evidence: dict[str, int | str | None] = {
            "register": facts.tcr, "field": problem.field, "value": problem.value, "PARange": problem.parange,
        }  # fmt: skip
        notes.hazard("M09", f"{problem.text}.", evidence)
        return
    mmfr0 = state.get(_MMFR0)
    name, value = "IPS" if facts.two_ranges else "PS", bits(tcr, *facts.tcr_layout.ps)
    if mmfr0 is not None and (parange := bits(mmfr0, 3, 0)) < len(ADDRESS_SIZES):
        size = f"{ADDRESS_SIZES[value]} bits"
        notes.agreed.append(f"{name} {value} ({size}) is within PARange {parange} ({ADDRESS_SIZES[parange]} bits)")


def _check_sctlr(notes: _Notes, sctlr: int | None, name: str) -> None:
    if sctlr is None:
        return
    wrong: tuple[tuple[int, int, str, Severity, str], ...] = (
        (SCTLR_EE, 1, "M34", Severity.HAZARD, "EE is 1: the tables are read as big-endian; they must be written so"),
        (SCTLR_WXN, 1, "M04", Severity.HAZARD, "WXN is 1: code in a page that is writable takes a Permission fault"),
        (SCTLR_M, 0, "M27", Severity.NOTE, "M is 0: with this value the MMU is off"),
        (SCTLR_C, 0, "M21", Severity.NOTE, "C is 0: data and table walks are Non-cacheable"),
        (SCTLR_I, 0, "M21", Severity.NOTE, "I is 0: instruction fetches are Non-cacheable"),
    )
    names = {SCTLR_EE: "EE", SCTLR_WXN: "WXN", SCTLR_M: "M", SCTLR_C: "C", SCTLR_I: "I"}
    for position, value, rule, severity, text in wrong:
        if bit(sctlr, position) == value:
            evidence: dict[str, int | str | None] = {"register": name, "field": names[position], "value": value}
            notes.findings.append(Finding(rule, severity, f"{name}.{text}.", evidence))
    right = [
        f"{names[position]}={1 - value}" for position, value, *_ in reversed(wrong) if bit(sctlr, position) != value
    ]
    if right:
        notes.agreed.append(f"{name}: {' '.join(right)}")


def _check_mair(notes: _Notes, mair: int | None, name: str) -> None:
    if mair is None:
        return
    types = [memory_type_of_mair_byte(mair >> 8 * index & 0xFF) for index in range(8)]
    cacheable = [index for index, memory_type in enumerate(types) if memory_type.is_cacheable]
    if not cacheable:
        text = f"{name} = {mair:#x} has no index for Normal cacheable memory: code would be Device or Non-cacheable."
        notes.hazard("M32", text, {"register": name, "value": mair})
        return
    listed = ", ".join(f"{index} ({types[index].text})" for index in cacheable[:3])
    notes.agreed.append(f"{name}: Normal cacheable at AttrIndx {listed}")


def _program_counter(state: CpuState, el: int) -> int | None:
    """PC, when it is known to belong to ``el``."""
    pstate = state.get("PSTATE")
    if pstate is None or bit(pstate, 4) or el_of(pstate) != el:
        return None
    return state.get("PC")


def _filled(state: CpuState, regime: Regime) -> CpuState:
    """``state`` with a value for what is unknown and decides nothing that is judged from the result."""
    facts = regime.facts
    names = (facts.sctlr, facts.tcr, facts.ttbr0, *((facts.ttbr1,) if facts.ttbr1 else ()))
    neutral = {**dict.fromkeys(names, 0), "HCR_EL2": HCR_WITHOUT_VHE}
    return state.with_values({name: value for name, value in neutral.items() if state.get(name) is None})


def _as_if(problem: str, tcr: str) -> str:
    """A problem as a clause of "as E2H=1, ..."."""
    return problem.removeprefix(f"{tcr}.").replace(" is ", " would be ", 1).replace(" has ", " would have ", 1)


def _listed(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def where_to_look(regime: Regime) -> Iterator[str]:
    """Which bits of the tables decide execution in ``regime``: what to look for first, as sentences."""
    if regime.facts.two_ranges:
        yield "A fetch at this level is denied by PXN (bit 53) of the leaf or PXNTable (bit 59) of a table descriptor."
        yield "A page that EL0 may write (AP[1]=1, AP[2]=0) is never executable at this level."
    else:
        yield "A fetch is denied by XN (bit 54) of the leaf or XNTable (bit 60) of a table descriptor."
        yield "Attributes made for EL1 set bit 54, which is UXN there: the page that runs next is then not executable."
