"""What happens inside a network while it trains: quantities, recorder, sinks, alerts."""

from ._alerts import Alert as Alert
from ._alerts import AlertWarning as AlertWarning
from ._alerts import Moment as Moment
from ._alerts import Rule as Rule
from ._builtin import builtin as builtin
from ._read import read as read
from ._schema import Recording as Recording
from ._session import Watch as Watch
from ._session import WatchWarning as WatchWarning
from ._watch import watch as watch
