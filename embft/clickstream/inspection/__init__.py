"""A look at a log that nobody has described yet: a bounded sample of it → what it is, and the config that reads it.

listing → sampling → keys → detection (names) → times → suggestion → trial     in this order, by look
partitions                                                                     the day in an object's key
"""

from embft.clickstream.inspection.look import Inspection, inspect_log

__all__ = ["Inspection", "inspect_log"]
