"""Whether the distribution of a plugin fits the installed core."""

from __future__ import annotations

from importlib.metadata import Distribution, PackageNotFoundError, version

#: The distributions whose versions plugins require.
_CORE = ("fastapi-crons-core", "fastapi-crons")


def unmet_requirement(distribution: Distribution) -> str | None:
    """Which version of core a distribution requires that is not installed, and what to do; None where all is well.

    pip checks the ranges of what it installs, but not of what is installed: `pip install -U fastapi-crons-core` only warns.
    """
    stated = [line for line in distribution.requires or () if line.lower().startswith("fastapi")]
    if not stated:
        return None
    from packaging.requirements import InvalidRequirement, Requirement  # costs more than all the rest
    from packaging.utils import canonicalize_name

    for line in stated:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        name = canonicalize_name(requirement.name)
        if name not in _CORE or (requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})):
            continue
        try:
            installed = version(name)
        except PackageNotFoundError:  # it runs from its sources, or is the distribution without code
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            wanted = f"{name}{requirement.specifier}"
            return (
                f"needs {wanted}, and {name} {installed} is installed: "
                f"pip install -U {distribution.name}, or pip install '{wanted}'"
            )
    return None
