"""Forward passes of every sub-network against the values of the published implementation."""

import pytest
from helpers.reference import NAMES, assert_published_outputs


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_every_subnetwork_gives_the_published_outputs(name, attention):
    assert_published_outputs(name, attention)
