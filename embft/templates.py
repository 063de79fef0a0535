"""Pages and mails by Jinja templates, which a package keeps beside its modules."""

from jinja2 import Environment, PackageLoader, StrictUndefined


def templates_of(package: str) -> Environment:
    """Open a package's templates.

    Args:
        package: Its dotted name.

    Returns:
        An environment that escapes every text for HTML, as a log's may be an attacker's, and knows no undefined name.
    """
    return Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
