"""What was refused, in words for people who have a page before them, and neither code nor a command line."""

from __future__ import annotations

#: What a request is refused for that no page of the dashboard has sent, by its status.
_OF_FORMS = {
    401: "nothing was done: you are not signed in, or the form was on a page of another site; sign in, and send it again",
    415: "nothing was done: only forms of these pages are accepted, and not those of other sites",
}
#: What core advises where it refuses a run.
_FORCE = "force=True"


def of_form(status: int, text: str) -> str:
    """Why a form was refused before it was looked at."""
    return _OF_FORMS.get(status, text)


def takes_force(text: str) -> bool:
    """Whether a refusal of core's does not hold where one insists."""
    return _FORCE in text


def on_a_page(text: str, where: str = "on its page") -> str:
    """A refusal of core's, which advises a parameter, with the box that stands for it. `where`: in which form that is."""
    return text.replace(_FORCE, f"the box “Force” {where}")


def sentence(text: str) -> str:
    """A text with a capital, and a full stop where it has no other end."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?', '…')) else '.'}"
