"""Operations on models that are already built: each returns a report, and can be undone."""

from ._convert import convert as convert
from ._fold import fold as fold
from ._freeze import freeze as freeze
from ._freeze import thaw as thaw
from ._insert import insert as insert
from ._prune import PruneReport as PruneReport
from ._prune import PruneRow as PruneRow
from ._prune import prune_report as prune_report
from ._report import Change as Change
from ._report import Proof as Proof
from ._report import SurgeryReport as SurgeryReport
