"""What a factory asks for, told from its source as from itself."""

import ast
import inspect

import pytest

from study import signatures

FACTORIES = """
import numpy
import functools
from elsewhere import imported
def network(inputs, outputs, depth, width, activation): ...
def two_others(features, classes, hidden=3): ...
def nothing(): ...
def keywords(**settings): ...
def places(*sizes): ...
class Network:
    def __init__(self, outputs, inputs, *, width=4): ...
class Inherited(Network): ...
anonymous = lambda inputs, outputs: None
alias = network
partial = functools.partial(network, 3)
@functools.cache
def decorated(classes): ...
def redefined(classes): ...
def redefined(inputs): ...
if True:
    def perhaps(classes): ...

def odd(inputs, classes): ...
def one(features): ...
def three(a, b, c): ...
def keyword_only(inputs, outputs, *, hidden): ...
def by_place(width, /): ...
def both(features, **settings): ...
class Odd:
    def __init__(self, inputs, hidden): ...
odd_anonymous = lambda inputs, hidden: None
odd_alias = odd
text = "network"
numbers = [1, 2]
async def later(inputs, outputs): ...
"""
BODY = ast.parse(FACTORIES).body
GOOD = ["network", "two_others", "nothing", "keywords", "places", "Network", "anonymous", "alias", "redefined"]
UNTOLD = ["imported", "Inherited", "partial", "decorated", "perhaps", "missing"]
BAD = {
    "odd": '"classes"', "one": '"features"', "three": '"a"', "keyword_only": '"hidden"', "by_place": "width",
    "both": '"features"', "Odd": '"hidden"', "odd_anonymous": '"hidden"', "odd_alias": '"classes"',
}  # fmt: skip


@pytest.mark.parametrize("name", [*GOOD, *UNTOLD])
def test_what_may_be_called_is_not_refused(name: str) -> None:
    assert signatures.refusal_of_source(BODY, name) is None


@pytest.mark.parametrize("name", BAD)
def test_a_parameter_that_is_not_offered_is_named(name: str) -> None:
    refused = signatures.refusal_of_source(BODY, name)
    assert refused is not None
    assert BAD[name] in refused
    assert "any of inputs, outputs, depth, width, activation" in refused


@pytest.mark.parametrize("name", ["text", "numbers", "later", "numpy"])
def test_what_cannot_be_called_is_refused(name: str) -> None:
    assert signatures.refusal_of_source(BODY, name) == signatures.NOT_CALLABLE


@pytest.mark.parametrize("name", [*GOOD, *BAD])
def test_source_and_function_tell_the_same(name: str) -> None:
    tree = ast.Module([s for s in BODY if not isinstance(s, ast.ImportFrom)], [])
    module: dict[str, object] = {}
    exec(compile(tree, "mine.py", "exec"), module)
    signature = inspect.signature(module[name])  # type: ignore[arg-type]
    assert signatures.refusal(signature) == signatures.refusal_of_source(BODY, name)
    if name in GOOD:
        positions, names = signatures.arguments(signature, dict.fromkeys(signatures.OFFERED, 1))
        signature.bind(*positions, **names)


def test_sizes_go_to_two_parameters_of_other_names_in_order() -> None:
    offered = dict(zip(signatures.OFFERED, (4, 3, 1, 5, "tanh"), strict=True))
    assert signatures.arguments(inspect.signature(lambda rows, labels: None), offered) == ([4, 3], {})
    assert signatures.arguments(inspect.signature(lambda *sizes: None), offered) == ([4, 3], {})
    assert signatures.arguments(inspect.signature(lambda width, inputs: None), offered) == (
        [],
        {"inputs": 4, "width": 5},
    )
