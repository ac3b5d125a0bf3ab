"""What a credential may be used for: the names of scopes, and how they are read. Pure.

Two are the system's; an agent's skills may declare others, such as ``imaging:analyse``. Who holds what is known to
``authentication``, who asks for what to ``authentication.check_scopes``.
"""

from __future__ import annotations

import re
from typing import Any

#: To see one's own tasks, their events, artifacts and push configurations.
READ = "tasks:read"
#: To submit, to answer, to cancel, to change, to run again, and to configure push notifications.
WRITE = "tasks:write"
SCOPE_MAX_CHARS = 100
#: RFC 6749, section 3.3: printable ASCII, but no space, quote or backslash.
_SCOPE = re.compile(rf"[!#-\[\]-~]{{1,{SCOPE_MAX_CHARS}}}")


def is_scope(text: str) -> bool:
    return _SCOPE.fullmatch(text) is not None


def of_claim(value: Any) -> frozenset[str]:
    """The scopes in a token's claim: words in a string (RFC 8693, section 4.2), or a list. Nothing else has any."""
    if isinstance(value, str):
        return frozenset(value.split())
    if isinstance(value, list):
        return frozenset(item for item in value if isinstance(item, str))
    return frozenset()
