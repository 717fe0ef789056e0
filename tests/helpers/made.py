"""Models that many tests make alike."""

import copy
from functools import wraps

import torch

MOST_KEPT = 16


def made_once(make):
    """Copy what `make` made from the same arguments before: that takes a third of the time.

    The random numbers drawn afterwards are the same, too.
    """
    made = {}

    @wraps(make)
    def copied(*args, **kwargs):
        key = f"{torch.get_default_device()} {args} {kwargs}"
        if key not in made:
            if len(made) == MOST_KEPT:
                del made[next(iter(made))]
            made[key] = make(*args, **kwargs), torch.get_rng_state()
        made[key] = model, state = made.pop(key)  # the latest stands last
        torch.set_rng_state(state)
        return copy.deepcopy(model)

    return copied
