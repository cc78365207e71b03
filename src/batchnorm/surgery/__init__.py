"""Operations on models that are already built: each returns a report, and can be undone."""

from ._convert import convert as convert
from ._insert import insert as insert
from ._report import Change as Change
from ._report import Proof as Proof
from ._report import SurgeryReport as SurgeryReport
