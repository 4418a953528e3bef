"""Stands for a mail server."""

sent: list[str] = []


def send(text: str) -> None:
    """Send a mail."""
    sent.append(text)
