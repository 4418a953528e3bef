"""A page of a browser that notes what the browser complains about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Page, Response

#: For a browser that runs as root, asks nobody for anything, and draws by itself.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Watched:
    """A page, and the complaints about it: console messages, errors of scripts, answers that are none."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.watches = True
        self.expected: tuple[int, ...] = ()
        """Statuses that answers may have besides those of success."""
        self.may_be_lost = False
        """Whether its server may be gone for a while: htmx says on the console that it got no answer."""
        page.on("console", self._note)
        page.on("pageerror", lambda error: self._complain(f"script: {error}"))
        page.on("response", self._check)

    def close(self) -> None:
        self.page.context.close()

    def accessible(self) -> list[str]:
        """What axe finds wrong with the page, all that can be unfolded on it included."""
        from axe_playwright_python.sync_playwright import Axe

        self.page.evaluate(
            "() => { document.querySelectorAll('details').forEach(it => { it.open = true });"
            " document.getAnimations().forEach(it => it instanceof CSSTransition && it.finish()) }"
        )
        found: dict[str, Any] = Axe().run(self.page).response
        return [
            f"{fault['id']}: {fault['help']}: {node['html'][:200]}"
            for fault in found["violations"]
            for node in fault["nodes"][:3]
        ]

    def _note(self, message: ConsoleMessage) -> None:
        # The browser says of each refused answer that it failed; which ones are all right is checked where they arrive.
        of_lost = self.may_be_lost and message.text.startswith("htmx: htmx:")
        # That a page is opened with the focus where its address says is no fault of its field that asks for it.
        of_focus = message.text.startswith("Autofocus processing was blocked")
        if "Failed to load resource" not in message.text and not of_lost and not of_focus:
            self._complain(f"{message.type}: {message.text}")

    def _check(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self.expected:
            self._complain(f"{response.status} {response.url}")

    def _complain(self, complaint: str) -> None:
        if self.watches:
            self.complaints.append(complaint)
