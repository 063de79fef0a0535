"""How figures, shares and queries are called in messages."""


def figure_text(figure: float) -> str:
    """Write a measure's figure: `0.612`."""
    return f"{figure:.3f}"


def share_text(share: float) -> str:
    """Write a share in per cent: `15 %`, below ten with a digit more: `2.4 %`."""
    per_cent = round(100 * share, 1)
    return f"{per_cent:.0f} %" if abs(per_cent) >= 10 else f"{per_cent:g} %"


def where(slice_name: str) -> str:
    """Say on which queries: nothing for all of them, else ` of tail queries`."""
    return "" if slice_name == "all" else f" of {slice_name} queries"
