"""Statistics of models that exist: estimators, and tools that measure, compare and adapt."""

from ._adapt import AdaptReport as AdaptReport
from ._adapt import adapt as adapt
from ._entropy import ResetGuard as ResetGuard
from ._estimators import Cumulative as Cumulative
from ._estimators import Ema as Ema
from ._estimators import Estimator as Estimator
from ._estimators import Running as Running
from ._estimators import Schedule as Schedule
from ._estimators import ZeroDebiasedEma as ZeroDebiasedEma
from ._gap import train_eval_gap as train_eval_gap
from ._gap_report import GapReport as GapReport
from ._gap_report import LayerGap as LayerGap
from ._online import Method as Method
from ._online import OnlineAdapter as OnlineAdapter
from ._population import Interval as Interval
from ._population import Population as Population
from ._recalibrate import Order as Order
from ._recalibrate import recalibrate as recalibrate
from ._reports import RecalibratedLayer as RecalibratedLayer
from ._reports import RecalibrationReport as RecalibrationReport
from ._schedules import MomentumSchedule as MomentumSchedule
from ._schedules import cumulative_then as cumulative_then
from ._schedules import half_life as half_life
