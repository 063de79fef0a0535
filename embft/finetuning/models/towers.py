"""The towers of a SentenceTransformer: which parameters each has, and which of them make up its layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import dropwhile, takewhile
from typing import TYPE_CHECKING, NamedTuple

from torch import nn

from embft.errors import ConfigError
from embft.finetuning.models.settings import check_truncation

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Tower = tuple[nn.Module, ...]
"""The modules an input passes, in order; the first one reads the input and holds the layers that can be frozen."""

_ROUTES = ("query", "document")


class Towers(NamedTuple):
    """Both towers; modules that both use are in both."""

    query: Tower
    items: Tower


def find_towers(model: SentenceTransformer) -> Towers:
    """Find the towers of a model: the routes of the `Router` that it begins with, or else the whole model twice.

    Args:
        model: Any SentenceTransformer.

    Returns:
        The towers.

    Raises:
        ConfigError: The router sends queries and documents elsewhere than to routes of these names.
    """
    from sentence_transformers.base.modules import Router

    router, *rest = model.children()
    if not isinstance(router, Router):
        return Towers((router, *rest), (router, *rest))
    routes = router.sub_modules
    if router.route_mappings or not routes.keys() >= set(_ROUTES):
        raise ConfigError(
            f"the model's Router has the routes {sorted(routes)} and the mappings {router.route_mappings}; towers need "
            'the routes "query" and "document" and no mapping: build it by `Router.for_query_document`'
        )
    query, items = ((*routes[name], *rest) for name in _ROUTES)
    return Towers(query, items)


def parameters_of(tower: Tower) -> list[nn.Parameter]:
    """Every parameter of a tower once, from the input on."""
    return list(dict.fromkeys(parameter for module in tower for parameter in module.parameters()))


def layers_of(tower: Tower) -> list[list[nn.Parameter]]:
    """Parameters of each layer of a tower, from the input on.

    The layers are the stack of blocks of the module that reads the input, which is its longest `nn.ModuleList`; what
    the module registers before the stack (embeddings, their norm) belongs to the first layer, and so does what stands
    beside the stack (relative positions of MPNet and DeBERTa, which every block adds). What comes after it (a last
    norm, a pooler, a projection, further modules) belongs to none. A module without a stack is one layer.

    Args:
        tower: Its first module reads the input.

    Returns:
        At least one list; empty where the module has no parameter.
    """
    reader = tower[0]
    stack = _stack(reader)
    layers = [list(block.parameters()) for block in _blocks(stack)]
    if not layers:
        return [list(reader.parameters())]
    first = layers[0][0]
    before = takewhile(lambda parameter: parameter is not first, reader.parameters())
    layers[0] = list(dict.fromkeys([*before, *layers[0], *_beside(stack, reader)]))
    return layers


def _stack(reader: nn.Module) -> nn.ModuleList:
    """The longest list of blocks; one inside another, as of the experts of a block, is no stack."""
    inside: set[nn.Module] = set()
    longest = nn.ModuleList()
    for module in reader.modules():  # an outer one comes before those inside it
        if not isinstance(module, nn.ModuleList):
            continue
        if module not in inside:
            longest = max(longest, module, key=lambda stack: len(_blocks(stack)))
        inside.update(module.modules())
    return longest


def _blocks(modules: Iterable[nn.Module]) -> list[nn.Module]:
    return [module for module in modules if any(True for _ in module.parameters())]


def _beside(stack: nn.Module, reader: nn.Module) -> list[nn.Parameter]:
    """Parameters registered after the stack in the module that holds it, but for a norm that follows it at once.

    Such a norm is the last one of Qwen, ModernBERT, T5 …, applied to what the stack gives.
    """
    parent = next(module for module in reader.modules() if any(child is stack for child in module.children()))
    _, *after = dropwhile(lambda child: child is not stack, parent.children())
    after = _blocks(after)
    if after and "norm" in type(after[0]).__name__.lower():
        del after[0]
    return [parameter for module in after for parameter in module.parameters()]


def dim_of(tower: Tower, truncate_dim: int | None) -> int:
    """Length of a tower's vectors.

    Args:
        tower: The last module that tells a dimension decides.
        truncate_dim: Of the model.

    Returns:
        The length.

    Raises:
        ConfigError: No module tells one, or the model cuts its vectors off.
    """
    tells = (getattr(module, "get_embedding_dimension", None) for module in reversed(tower))
    told = (tell() for tell in tells if callable(tell))
    dim: int | None = next((dim for dim in told if dim is not None), None)
    if dim is None:
        names = [type(module).__name__ for module in tower]
        raise ConfigError(f"no module of {names} tells how long its vectors are; the last but Normalize must pool")
    check_truncation(truncate_dim, dim)
    return dim


def freeze_unused_poolers(modules: Sequence[nn.Module]) -> None:
    """Freeze poolers whose output no vector is made of, as BERT's where token vectors are averaged.

    They get no gradient; were they free, a model with all its layers frozen would seem to have something to train.

    Args:
        modules: Of a model; those that are no transformer are left alone.
    """
    from sentence_transformers.base.modules import Transformer

    for module in modules:
        pooler = getattr(module.model, "pooler", None) if isinstance(module, Transformer) else None
        if isinstance(pooler, nn.Module) and module.module_output_name == "token_embeddings":
            pooler.requires_grad_(False)
