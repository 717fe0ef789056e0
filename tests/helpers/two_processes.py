"""All that two processes do in the default suite, in one start: they evaluate, then they train."""

import gc
import sys
from pathlib import Path

from helpers import ddp_worker, evaluation_worker


def main(folder, num_processes):
    for worker in (evaluation_worker, ddp_worker):
        place = Path(folder) / worker.__name__.rpartition(".")[2]
        place.mkdir(exist_ok=True)
        worker.main(place, num_processes)


if __name__ == "__main__":
    gc.freeze()  # a training begins with a collection of garbage, which need not look at all that is imported
    main(sys.argv[1], int(sys.argv[2]))
