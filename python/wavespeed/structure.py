"""Finds the blocks of a model by watching one call of it, for classes that no descriptor covers.

What is looked for is the usual loop: lists of blocks, each block given what the one before it returned. All hidden
states that the last block returns are cached, so nothing has to be known about which of them the picture comes from.
Whatever is not this loop exactly is refused, and what is found is still checked by a second call (discovery.py) before
it is used.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from .architecture import Architecture, Stage, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY_STREAMS = 4
"""As many hidden states as the native session has room for."""

AUTOREGRESSIVE = "ar_state"
"""Key of transformer_options in calls whose blocks write down keys and values for later calls."""


def _elements(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


@dataclass(eq=False)
class BlockList:
    """One list of blocks as the model runs it."""

    path: str
    blocks: list[torch.nn.Module]
    numbers: list[int] = field(default_factory=list)
    """Blocks in the order of their calls."""
    result: Any = None
    """What the block called last returned."""
    carried: dict[int, str] | None = None
    """Which element of a block's result becomes which argument of the next block."""
    regular: bool = True
    """Every block was given what the one before it returned, in the same way."""
    joined: tuple[str, tuple[int, ...]] | None = None
    """The argument of the first block that is the results of the list before, in this order, one behind the other."""

    def parameters(self) -> int:
        return sum(parameter.numel() for block in self.blocks for parameter in block.parameters())

    def names(self) -> list[str]:
        """Arguments of a block by position."""
        return list(inspect.signature(type(self.blocks[0]).forward).parameters)[1:]


def _parameters(lists: list[BlockList]) -> int:
    return sum(watched.parameters() for watched in lists)


class Observer:
    """Context manager around one call of the model."""

    def __init__(self, diffusion_model: torch.nn.Module) -> None:
        self.lists = list(_block_lists(diffusion_model))
        self._model = diffusion_model
        self._events: list[BlockList | None] = []
        """In the order of calls: a block of this list, or (None) a module with weights that belongs to no list."""
        self._handles: list[Any] = []

    def __enter__(self) -> Observer:
        inside = {module for watched in self.lists for block in watched.blocks for module in block.modules()}
        for watched in self.lists:
            for number, block in enumerate(watched.blocks):
                self._watch(watched, number, block)
        for module in self._model.modules():
            # Containers of blocks are left out: a call of theirs would say nothing.
            if module not in inside and any(True for _ in module.parameters(recurse=False)):
                self._handles.append(module.register_forward_pre_hook(lambda *_call: self._events.append(None)))
        return self

    def __exit__(self, *_exception: object) -> None:
        for handle in self._handles:
            handle.remove()
        for watched in self.lists:
            watched.result = None

    def _watch(self, watched: BlockList, number: int, block: torch.nn.Module) -> None:
        def before(_block: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = dict(zip(watched.names(), args, strict=False)) | kwargs
            if watched.numbers:
                self._compare(watched, given)
            else:
                watched.joined = self._join(given)
            watched.numbers.append(number)
            self._events.append(watched)

        def after(_block: torch.nn.Module, _args: Any, _kwargs: Any, result: Any) -> None:
            watched.result = result

        self._handles.append(block.register_forward_pre_hook(before, with_kwargs=True))
        self._handles.append(block.register_forward_hook(after, with_kwargs=True))

    @staticmethod
    def _compare(watched: BlockList, given: dict[str, Any]) -> None:
        """What the block before returned is looked for among the arguments of this one, by identity."""
        carried = {
            place: name
            for place, element in enumerate(_elements(watched.result))
            for name, value in given.items()
            if isinstance(element, torch.Tensor) and value is element
        }
        watched.regular &= bool(carried) and watched.carried in (None, carried)
        watched.carried = carried

    def _join(self, given: dict[str, Any]) -> tuple[str, tuple[int, ...]] | None:
        """Whether one argument is the results of the list before, one behind the other along the tokens. Compared now:
        the first block may write into it."""
        before = self._events[-1] if self._events else None
        if before is None or not isinstance(before.result, tuple):
            return None
        streams = before.result
        if len(streams) != 2 or not all(isinstance(stream, torch.Tensor) and stream.dim() == 3 for stream in streams):
            return None
        found = [
            (name, order)
            for name, value in given.items()
            for order in ((0, 1), (1, 0))
            if isinstance(value, torch.Tensor) and _is_joined(value, [streams[place] for place in order])
        ]
        return found[0] if len(found) == 1 else None

    # ---- What was seen -----------------------------------------------------------------------------------------------

    def architecture(self) -> Architecture:
        """The descriptor of the observed loop. Raises UnsupportedModelError with the reason where there is none.

        Which rows belong to which cond is not known, so the batch is kept as one piece.
        """
        chains = self._chains()
        if not chains:
            raise UnsupportedModelError("it does not hand its hidden states from block to block")
        chain = max(chains, key=_parameters)
        self._check_nothing_between(chain)
        self._check_is_trunk(chain)
        return Architecture(
            type(self._model).__name__,
            stages=tuple(self._stages(chain)),
            whole_batch=True,
            never_options=(AUTOREGRESSIVE,),
        )

    def _chains(self) -> list[list[BlockList]]:
        """Regular lists, and pairs of them of which the second takes what the first returns."""
        called = [watched for watched in dict.fromkeys(self._events) if watched is not None]
        chains: list[list[BlockList]] = []
        for watched in called:
            if not watched.regular or len(watched.numbers) < 2 or len(set(watched.numbers)) != len(watched.numbers):
                continue
            if watched.joined is not None and chains and chains[-1][-1] is called[called.index(watched) - 1]:
                chains[-1].append(watched)
            else:
                chains.append([watched])
        return chains

    def _check_is_trunk(self, chain: list[BlockList]) -> None:
        """Refiners, encoders of text and what is inside a UNet's levels are such loops too. Caching one of them would
        save next to nothing and look like success."""
        if _parameters(chain) < _parameters(self.lists) / 2:
            raise UnsupportedModelError("its longest chain of blocks holds less than half of the weights of all blocks")
        end = max(place for place, event in enumerate(self._events) if event in chain)
        later = {event for event in self._events[end + 1 :] if event is not None}
        if _parameters(list(later)) > _parameters(chain) / 4:
            raise UnsupportedModelError("other blocks follow its longest chain")

    def _check_nothing_between(self, chain: list[BlockList]) -> None:
        places = [place for place, event in enumerate(self._events) if event in chain]
        between = self._events[places[0] : places[-1] + 1]
        if any(event not in chain for event in between):
            raise UnsupportedModelError("it runs other modules between its blocks")

    def _stages(self, chain: list[BlockList]) -> Iterator[Stage]:
        for order, watched in enumerate(chain):
            assert watched.carried is not None
            elements = _elements(watched.result)
            if len(watched.carried) != len(elements) or len(elements) > MANY_STREAMS:
                raise UnsupportedModelError("its blocks return more than the hidden states")
            names = watched.names()
            carried = [watched.carried[place] for place in range(len(elements))]
            following = chain[order + 1] if order + 1 < len(chain) else None
            if following is not None:
                assert following.joined is not None
                main, form = tuple(carried[place] for place in following.joined[1]), "tokens"
            else:
                # The last block of some models returns None for a stream that nothing needs any more.
                kept = zip(carried, elements, strict=True)
                main = tuple(name for name, element in kept if isinstance(element, torch.Tensor))
                form = "tensor" if len(main) == 1 else "streams"
            yield Stage(
                path=watched.path,
                hidden=tuple((name, names.index(name)) for name in carried),
                returns=tuple(carried) if isinstance(watched.result, tuple) else None,
                main=main[0] if len(main) == 1 else main,
                form=form,
            )


def _is_joined(value: torch.Tensor, streams: list[torch.Tensor]) -> bool:
    tokens = sum(stream.shape[1] for stream in streams)
    return value.dim() == 3 and value.shape[1] == tokens and torch.equal(value, torch.cat(streams, 1))


def _block_lists(diffusion_model: torch.nn.Module) -> Iterator[BlockList]:
    """The outermost lists of at least two modules."""
    covered: list[str] = []
    for path, module in diffusion_model.named_modules():
        if any(path.startswith(outer + ".") for outer in covered):
            continue
        if isinstance(module, (torch.nn.ModuleList, torch.nn.ModuleDict)) and len(module) > 1:
            covered.append(path)
            yield BlockList(path, list(module.values() if isinstance(module, torch.nn.ModuleDict) else module))
