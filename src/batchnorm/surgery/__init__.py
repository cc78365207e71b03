"""Operations on models that are already built: each returns a report, and can be undone."""

from ._conventions import CONVENTIONS as CONVENTIONS
from ._conventions import Convention as Convention
from ._conventions import convert_options as convert_options
from ._conventions import convert_state as convert_state
from ._convert import convert as convert
from ._fold import fold as fold
from ._frameworks import ForeignNorm as ForeignNorm
from ._frameworks import from_framework as from_framework
from ._frameworks import to_framework as to_framework
from ._freeze import freeze as freeze
from ._freeze import thaw as thaw
from ._insert import insert as insert
from ._prune import PruneReport as PruneReport
from ._prune import PruneRow as PruneRow
from ._prune import prune_report as prune_report
from ._report import Change as Change
from ._report import Proof as Proof
from ._report import SurgeryReport as SurgeryReport
