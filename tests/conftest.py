"""The order of the tests."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow ones first: with several processes the last to end should be a short one."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
