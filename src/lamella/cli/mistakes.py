"""One line for each mistake on the command line: what was given, what is needed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from cyclopts import CycloptsError
from pydantic import ValidationError

from lamella.blockwise.failure import is_full_disk
from lamella.core.errors import UserError


def unknown_verb(word: str, verbs: Iterable[str], group: str) -> UserError:
    """The error for a word that is no verb of ``group``, with the nearest that is."""
    verbs = sorted(verbs)
    near = difflib.get_close_matches(word, verbs, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"verbs are {', '.join(verbs)}"
    return UserError(f"{group} has no verb {word!r}; {hint}")


def explain_words(error: CycloptsError, words: Sequence[str]) -> str:
    """The parser's complaint in one line, and where to look."""
    error.verbose = False
    cause = _cause(error)
    told = "; ".join(_flag(e, words) for e in cause.errors()) if cause else " ".join(str(error).split())
    verb = [word for word in words[:2] if word.replace("-", "").isalpha() and not word.startswith("-")]
    chain = error.command_chain or verb[:1]
    return f"{told.rstrip('.')}; see {' '.join(['lamella', *chain])} --help"


def full_disk(error: Exception) -> str | None:
    """What to say if that is why a command failed."""
    if not is_full_disk(error):
        return None
    return "no space left on the disk; what was written before is kept: free some space and run the same command again"


def _cause(error: BaseException) -> ValidationError | None:
    """The check of a config that failed, if that is why."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, ValidationError):
        found = found.__cause__ or found.__context__
    return found


def _flag(error: object, words: Sequence[str]) -> str:
    assert isinstance(error, dict)
    message = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return message
    parts = [str(part).replace("_", "-") for part in error["loc"]]
    given = {word.split("=")[0].replace("_", "-") for word in words}
    name = next((n for k in range(len(parts), 1, -1) if (n := f"--{'.'.join(parts[:k])}") in given), f"--{parts[0]}")
    value = "" if isinstance(error["input"], dict) else f" is {error['input']!r}"
    return f"{name}{value}: {message[0].lower()}{message[1:]}"
