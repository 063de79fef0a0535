"""Where a line comes from, and what is searched for: rules that filter a line by itself."""

import re
from ipaddress import ip_address
from typing import NamedTuple

from embft.clickstream.privacy import private_parts
from embft.clickstream.values import normalised
from embft.log_config import Logs

USER_AGENT = "user_agent"
INTERNAL_IP = "internal_ip"
PRIVATE_QUERY = "private_query"

_REMEMBERED = 100_000


class Query(NamedTuple):
    """A query as it was judged.

    Args:
        text: Normalised, private parts hidden; None where nothing is left of it.
        is_private: It is not to be used.
    """

    text: str | None
    is_private: bool = False


class SourceRules:
    """Judges queries, user agents and IP addresses; each distinct one once.

    Args:
        logs: The rules.
    """

    def __init__(self, logs: Logs) -> None:
        self._private = logs.privacy.private_queries
        agents = logs.noise.user_agents
        self._agents = re.compile("|".join(f"(?:{it})" for it in agents), re.IGNORECASE) if agents else None
        self._networks = logs.noise.internal_ips
        self._queries: dict[str, Query] = {}

    def query(self, typed: str) -> Query:
        """Judge a query.

        Args:
            typed: As the log has it.

        Returns:
            Its normalised form, and whether it must not be used.
        """
        known = self._queries.get(typed)
        if known is None:
            if len(self._queries) >= _REMEMBERED:
                self._queries.clear()
            known = self._queries[typed] = self._judged(normalised(typed))
        return known

    def is_robot(self, user_agent: str | None) -> bool:
        """Say whether a user agent is that of a robot."""
        return bool(self._agents and user_agent and self._agents.search(user_agent))

    def is_internal(self, ip: str | None) -> bool:
        """Say whether an address is one of our own; what is no address is none."""
        if not ip or not self._networks:
            return False
        try:
            address = ip_address(ip.strip())
        except ValueError:
            return False
        return any(address in network for network in self._networks)

    def _judged(self, text: str) -> Query:
        if self._private == "keep" or not text:
            return Query(text or None)
        hidden = private_parts(text)
        if hidden == text:
            return Query(text)
        return Query(None, is_private=True) if self._private == "drop" else Query(hidden)
