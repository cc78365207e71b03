"""What happens inside a network while it trains: quantities, recorder, sinks, alerts."""

from ._read import read as read
from ._schema import Recording as Recording
