"""Names that earlier code imports still make what the package chooses among."""

import dynabert_hf
from dynabert_hf import SizeRecord, SubNetwork, recommend


def test_former_names_make_records():
    size = SubNetwork(0.5, 0.5)
    small = dynabert_hf.Candidate(size, accuracy=0.84, latency_ms=4.0, flops=None)
    large = dynabert_hf.Candidate(SubNetwork(), 0.88, latency_ms=20.0)
    assert small == SizeRecord("w0.5-d0.5", {"accuracy": 0.84}, {"latency_ms": 4.0})
    assert recommend([small, large], latency_ms=10).choice.subnetwork == size
    assert recommend([small, large], max_accuracy_drop=0.05).choice == small
    assert recommend([small, large], max_accuracy_drop=0.03).choice == large
    facts = dynabert_hf.SizeFacts(size, {"accuracy": 0.84}, parameters=7, flops=9)
    assert facts == SizeRecord(size, {"accuracy": 0.84}, {"parameters": 7, "flops": 9})
    assert dynabert_hf.make_candidates({size: 0.84}, {size: {"latency_ms": 4.0}}) == (small,)
    assert dynabert_hf.Profile is SizeRecord


def test_former_names_come_by_a_star_import():
    assert {"Candidate", "Profile", "SizeFacts", "make_candidates"} <= set(dynabert_hf.__all__)
