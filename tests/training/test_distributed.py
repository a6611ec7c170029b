"""Two processes are one with their batches put together."""

from __future__ import annotations

import socket

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from itk_ncr.checkpoints import read_state
from itk_ncr.errors import ArgumentError
from itk_ncr.training import FAILED, STATE, distributed

HEAD = "from itk_ncr.training import joined_processes, STATE\nimport shutil, sys\n"
HEAD += "with joined_processes() as (rank, size):\n"


@pytest.fixture
def run_two(start_program):
    """Run a program in two processes; what each printed and how it ended."""

    def run(text: str) -> list[tuple[str, str, int]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        body = "".join(f"    {line}\n" for line in text.strip().splitlines())
        programs = [
            start_program(
                HEAD + body,
                RANK=str(rank),
                WORLD_SIZE="2",
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT=str(port),
            )
            for rank in range(2)
        ]
        try:
            return [(*p.communicate(timeout=100), p.returncode) for p in programs]
        finally:
            for program in programs:
                program.kill()

    return run


def test_two_processes_train_as_one_does_and_stop_together(tmp_path, make_training, run_two):
    changes = "variant='ncr-b', batch=4, most_labels=1, steps=4, log_every=1"
    ended = run_two(
        f"""
assert size == 2
run = make_training({str(tmp_path / "two")!r}, {changes})
run.run(stop=lambda: run.step == 1 and rank == 1)
assert run.step == 1
if rank == 0:
    shutil.copy(run.folder / STATE, run.folder / 'first')
run.run()

# And a pair that one of them cannot use.
broken = make_training({str(tmp_path / "bad")!r}, variant='regnet', batch=2, broken=3, steps=10)
try:
    broken.run()
except Exception as error:
    print(type(error).__name__, error)
"""
    )
    assert all(status == 0 for *_, status in ended), ended
    for said, _, _ in ended:
        assert said.startswith("TrainingError loss must stay finite")
        assert "pair 3" in said
        assert "pair 0" not in said
    tensors, _ = read_state(tmp_path / "bad" / FAILED)
    assert all(torch.isfinite(t).all() for t in tensors.values())
    one = make_training(
        tmp_path / "one", variant="ncr-b", batch=4, most_labels=1, steps=4, log_every=1
    )
    one.run(stop=lambda: one.step == 1)
    alone, _ = read_state(one.folder / STATE)
    (tmp_path / "two" / "first").rename(tmp_path / "two" / "first.safetensors")
    shared, _ = read_state(tmp_path / "two" / "first.safetensors")
    # The moments after one step are a tenth of the gradient. Sums over voxels run in another order,
    # which shows where a gradient is a small difference of large terms: 2e-5 of the largest entry
    # was measured. (Weights cannot be compared so: Adam's first step is the sign of the gradient.)
    assert alone.keys() == shared.keys()
    moments = [name for name in alone if name.endswith("exp_avg")]
    largest = max(float(alone[name].abs().max()) for name in moments)
    for name in moments:
        assert_close(shared[name], alone[name], rtol=1e-3, atol=1e-4 * largest, msg=name)
    for name in alone:
        if "running" in name:
            assert_close(shared[name], alone[name], rtol=1e-5, atol=1e-6, msg=name)
    one.run()
    _, record = read_state(tmp_path / "two" / STATE)
    assert record["step"] == 4
    for mine, theirs in zip(one.rows, record["rows"], strict=True):
        # 1.2e-5 was measured after four steps; another label drawn changes the overlap by 1e-1.
        for name in ("total", "registration", "overlap"):
            assert mine[name] == pytest.approx(theirs[name], rel=2e-4), (name, mine["step"])


def test_a_batch_that_cannot_be_divided_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "size", lambda: 2)
    with pytest.raises(ArgumentError, match="multiple of the 2 processes; got 3"):
        distributed.share_of(3)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    assert list(distributed.share_of(6)) == [3, 4, 5]


@pytest.mark.parametrize("dimension", [2, 3])
def test_shared_batch_norm_is_batch_norm_where_there_is_one_process(dimension, monkeypatch):
    monkeypatch.setattr(distributed._SumOverProcesses, "apply", lambda moments: moments)
    plain = (nn.BatchNorm2d if dimension == 2 else nn.BatchNorm3d)(3).double()
    nn.init.uniform_(plain.weight, 0.5, 2, generator=torch.Generator().manual_seed(1))
    other = type(plain)(3).double()
    other.load_state_dict(plain.state_dict())
    shared = distributed.SharedBatchNorm(other)
    assert shared.state_dict().keys() == plain.state_dict().keys()
    shape = (2, 3, 4, 5, 6)[: dimension + 2]
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 3 + 7
    ups = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    grads = []
    for norm in (plain, shared):
        given = x.clone().requires_grad_()
        norm(given).backward(ups)
        grads.append([given.grad, norm.weight.grad, norm.bias.grad])
    for mine, wanted in zip(*grads, strict=True):
        assert_close(mine, wanted, rtol=1e-9, atol=1e-11)
    for name, tensor in plain.state_dict().items():
        assert_close(shared.state_dict()[name], tensor, rtol=1e-12, atol=1e-12, msg=name)
    assert_close(shared.eval()(x), plain.eval()(x), rtol=1e-12, atol=1e-12)
